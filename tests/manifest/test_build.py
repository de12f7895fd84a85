"""Every kind of source becomes a manifest with a row for each input."""

import csv
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.builds import SWAP, ids, put, reasons, row

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.manifest.build import build_manifest, write_manifest
from dfdm_ray.schemas import MANIFEST, check_manifest


def test_the_whole_of_dfdm_has_no_problems(dfdm_tree: Path) -> None:
    build = build_manifest(str(dfdm_tree))
    assert build.table.num_rows == 6450
    assert build.table.schema.equals(MANIFEST)
    assert build.problems == ()
    assert build.num_other_files == {}
    assert build.is_dfdm
    assert ids(build) == sorted(ids(build))
    check_manifest(build.table, origin="built")


def test_a_row_says_what_and_where_its_video_is(tmp_path: Path) -> None:
    path = put(tmp_path / "DFDM_crf10" / "IAE" / SWAP, b"12345")
    build = build_manifest(f"{tmp_path}/")
    assert build.table.to_pylist() == [
        {
            "video_id": f"DFDM_crf10/IAE/{SWAP}",
            "uri": str(path),
            "size_bytes": 5,
            "modified_ns": path.stat().st_mtime_ns,
            "generator": "iae",
            "crf": 10,
            "target_identity": "id0",
            "source_identity": "id1",
            "scene": "0000",
            "split": None,
        }
    ]


def test_a_relative_root_gives_absolute_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "crf23" / SWAP)
    monkeypatch.chdir(tmp_path / "crf23")
    build = build_manifest(".")
    assert (row(build, SWAP)["uri"], row(build, SWAP)["crf"]) == (str(tmp_path / "crf23" / SWAP), 23)


def test_names_that_do_not_parse_keep_a_row_and_give_a_reason_in_dfdm(tmp_path: Path) -> None:
    put(tmp_path / "DFDM_crf17" / SWAP)
    put(tmp_path / "DFDM_crf0" / "id0_id1_0000_6foo.mp4")
    put(tmp_path / "trailer.mp4")
    build = build_manifest(str(tmp_path))
    assert build.table.num_rows == 3
    assert row(build, f"DFDM_crf17/{SWAP}")["crf"] is None
    found = reasons(build)
    assert found[f"DFDM_crf17/{SWAP}"] == "unknown quality folder DFDM_crf17; known are 0, 10, 23"
    assert found["DFDM_crf0/id0_id1_0000_6foo.mp4"].startswith('unknown generator tag "6foo"')
    assert found["trailer.mp4"].startswith("name does not match")


def test_how_names_with_1original_were_read_is_noted(tmp_path: Path) -> None:
    put(tmp_path / "DFDM_crf0" / "id0_id1_0000_1original.mp4")
    put(tmp_path / "DFDM_crf0" / "id0_id1_0000_4dfaker.mp4")
    swapped, real = (build_manifest(str(tmp_path), original=one) for one in ("faceswap", "real"))
    assert swapped.table["generator"].to_pylist() == ["faceswap", "dfaker"]
    assert real.table["generator"].to_pylist() == ["real", "dfaker"]
    assert str(swapped.original_note).startswith("names with the tag 1original: 1, read as Faceswap; ")
    assert "--original real" in str(swapped.original_note)
    assert str(real.original_note).startswith("names with the tag 1original: 1, read as real videos; ")
    put(tmp_path / "other" / SWAP)
    assert build_manifest(str(tmp_path / "other")).original_note is None


def test_names_of_another_data_set_are_no_problems(tmp_path: Path) -> None:
    put(tmp_path / "holiday" / "beach.mp4")
    put(tmp_path / "dinner.MOV")
    build = build_manifest(str(tmp_path))
    assert not build.is_dfdm
    assert build.problems == ()
    assert ids(build) == ["dinner.MOV", "holiday/beach.mp4"]
    assert build.table["generator"].null_count == 2


def test_files_of_operating_systems_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "crf23" / "@eaDir" / "b.mp4").mkdir(parents=True)
    for name in ("crf23/._a.mp4", "__MACOSX/crf23/a.mp4", ".Trashes/501/x.mp4", "crf23/@eaDir/b.mp4/v.mp4"):
        put(tmp_path / name)
    put(tmp_path / "crf23" / SWAP)
    put(tmp_path / "crf23" / ".hidden.mp4")
    build = build_manifest(str(tmp_path))
    assert ids(build) == ["crf23/.hidden.mp4", f"crf23/{SWAP}"]
    assert build.num_other_files == {"._*": 1, ".Trashes": 1, "@eaDir": 2, "__MACOSX": 1}
    assert [one.name for one in build.problems] == ["crf23/.hidden.mp4"]  # its name is not that of DFDM
    named = put(tmp_path / "list.txt", b"crf23/._a.mp4\n")
    assert ids(build_manifest(str(named))) == ["crf23/._a.mp4"]


def test_copies_by_name_and_size_are_problems(tmp_path: Path) -> None:
    for name in ("x.mp4", "x (1).mp4", "x copy.mp4", "scene 2.mp4", "clips/y.mp4", "clips 2/y.mp4"):
        put(tmp_path / name)
    put(tmp_path / "x - Copy.mp4", b"of another size")
    build = build_manifest(str(tmp_path))
    assert build.table.num_rows == 7
    assert reasons(build) == {
        copy: f"looks like a copy of {original}, with the same size; both count"
        for copy, original in {
            "clips 2/y.mp4": "clips/y.mp4",
            "x (1).mp4": "x.mp4",
            "x copy.mp4": "x.mp4",
        }.items()
    }


def test_other_files_are_counted_by_extension(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.TXT", "c.txt", "d", ".mp4", "e.tar.gz", "f.mp4.part"):
        put(tmp_path / name)
    build = build_manifest(str(tmp_path))
    assert ids(build) == ["a.mp4"]
    assert build.num_other_files == {"": 2, "gz": 1, "part": 1, "txt": 2}


def test_things_called_like_videos_keep_a_row_and_are_problems(tmp_path: Path) -> None:
    put(tmp_path / "good.mp4")
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "dangling.txt").symlink_to("nowhere.txt")
    put(tmp_path / "folder.mp4" / "inside.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked.mkv").symlink_to("elsewhere")
    (tmp_path / "linked").symlink_to("elsewhere")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    build = build_manifest(str(tmp_path))
    unreadable = ["dangling.mp4", "folder.mp4", "linked.mkv", "loop.mp4", "pipe.mp4"]
    assert ids(build) == sorted([*unreadable, "good.mp4", "folder.mp4/inside.mp4"])
    assert [row(build, name)["size_bytes"] for name in unreadable] == [0] * 5
    assert row(build, "pipe.mp4")["uri"] == str(tmp_path / "pipe.mp4")
    link = "a link to a folder; such links are not followed"
    assert reasons(build) == {
        "dangling.mp4": "No such file or directory",
        "dangling.txt": "No such file or directory",
        "folder.mp4": "a folder, not a file",
        "linked.mkv": link,
        "linked": link,
        "loop.mp4": "Too many levels of symbolic links",
        "pipe.mp4": "not a regular file",
    }


def test_what_has_no_row_is_told_apart_from_what_has_one(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "linked").symlink_to("elsewhere")
    build = build_manifest(str(tmp_path))
    assert set(reasons(build)) == {"gone.mp4", "linked"}
    assert [str(problem) for problem in build.not_listed] == [
        "linked: a link to a folder; such links are not followed"
    ]


def test_whatever_a_list_file_names_has_a_row(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    (tmp_path / "folder").mkdir()
    put(tmp_path / "list.txt", b"a.mp4\nfolder\ngone\n")
    build = build_manifest(str(tmp_path / "list.txt"))
    assert ids(build) == ["a.mp4", "folder", "gone"]
    assert build.not_listed == ()


def test_a_link_to_a_video_is_a_video(tmp_path: Path) -> None:
    put(tmp_path / "store" / "blob", b"123")
    (tmp_path / "a.mp4").symlink_to("store/blob")
    assert row(build_manifest(str(tmp_path)), "a.mp4")["size_bytes"] == 3


def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    # Deeper than any path may be long, so that even root cannot list the end.
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=folder)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    for source in (str(tmp_path), f"{tmp_path}/**/*.mp4"):
        build = build_manifest(source)
        assert ids(build) == ["a.mp4"]
        (problem,) = build.problems
        assert (problem.name[:250], problem.reason) == ("x" * 250, "File name too long")


NAMES = [
    # spaces, at the ends too
    " two  words .mp4",
    # what a URI would take apart
    "50%25 #1 a?b=c&d.mp4",
    # a colon, something like a scheme
    "s3:bucket.mp4",
    "file:x.mp4",
    # brackets that a pattern or a terminal would read
    "[bold]a[1]*.mp4",
    # composed, combining, right to left, outside the BMP
    "\u00e9e\u0301\u05d0\U0001f600.mp4",
    # a new line and an escape
    "a\nb\x1b[31m.mp4",
    # quotes and a backslash
    "a'b\"c\\d.mp4",
    # a leading dash
    "-rf.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_its_own_id_and_can_be_opened(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a b" / name, name.encode())
    build = build_manifest(str(tmp_path))
    assert ids(build) == [f"a b/{name}"]
    with storage.open_input(build.table["uri"][0].as_py()) as stream:
        assert stream.read() == name.encode()


def write_bytes_named(folder: Path, name: bytes) -> None:
    try:
        with open(os.fsencode(folder) + b"/" + name, "wb") as stream:
            stream.write(name)
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")


def test_a_name_that_is_not_utf8_can_be_opened_by_its_uri(tmp_path: Path) -> None:
    write_bytes_named(tmp_path, b"a\xff %.mp4")
    for source in (str(tmp_path), f"{tmp_path}/*.mp4"):
        build = build_manifest(source)
        assert ids(build) == ["a%FF%20%25.mp4"]
        with storage.open_input(build.table["uri"][0].as_py()) as stream:
            assert stream.read() == b"a\xff %.mp4"


def test_a_name_that_looks_like_the_encoding_of_another_keeps_its_row(tmp_path: Path) -> None:
    write_bytes_named(tmp_path, b"a\xff.mp4")
    put(tmp_path / "a%FF.mp4", b"other")
    build = build_manifest(str(tmp_path))
    assert set(build.table["size_bytes"].to_pylist()) == {5, 6}
    assert ids(build) == ["a%FF.mp4", f"file://{tmp_path}/a%FF.mp4"]
    assert reasons(build) == {
        f"file://{tmp_path}/a%FF.mp4": "its id is its URI, because another file has the id a%FF.mp4",
    }
    check_manifest(build.table, origin="built")


def test_a_list_file_may_hold_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_bytes_named(tmp_path, b"a\xff.mp4")
    put(tmp_path / "list.txt", b"a\xff.mp4\n")
    build = build_manifest(str(tmp_path / "list.txt"))
    assert (ids(build), build.table["size_bytes"].to_pylist()) == (["a%FF.mp4"], [6])


def test_a_written_manifest_is_read_back_with_its_problems_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "in" / "crf0" / SWAP)
    put(tmp_path / "in" / 'say "hi", world.mp4')
    build = build_manifest(str(tmp_path / "in"))
    uri = str(tmp_path / "out" / "manifest.parquet")
    problems_uri = write_manifest(uri, build, build.table)
    assert problems_uri == str(tmp_path / "out" / "manifest.problems.csv")
    assert pq.read_table(uri).equals(build.table)
    with open(problems_uri, encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["name", "reason"],
            ['say "hi", world.mp4', "name does not match id0_id1_0000_1original"],
        ]


def test_problems_of_an_earlier_manifest_do_not_stay(tmp_path: Path) -> None:
    odd = put(tmp_path / "in" / "odd.mp4")
    put(tmp_path / "in" / "crf0" / SWAP)
    uri = str(tmp_path / "manifest.parquet")
    first = build_manifest(str(tmp_path / "in"))
    assert write_manifest(uri, first, first.table) is not None
    odd.unlink()
    second = build_manifest(str(tmp_path / "in"))
    assert write_manifest(uri, second, second.table) is None
    assert sorted(os.listdir(tmp_path)) == ["in", "manifest.parquet"]


def test_a_manifest_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    build = build_manifest(str(put(tmp_path / "a.mp4")))
    with pytest.raises(UserError, match="cannot write the manifest"):
        write_manifest(str(tmp_path / "a.mp4" / "manifest.parquet"), build, build.table)
