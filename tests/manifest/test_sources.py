"""Folders, lists, patterns and single videos: what counts as a source of videos, and what does not."""

from pathlib import Path

import pytest
from support.builds import SWAP, ids, put, reasons, row

from dfdm_ray.errors import UserError
from dfdm_ray.manifest.build import Problem, build_manifest

FOLDER_HINT = "a folder, not a file; end the pattern in /** to include its files"


def write_list(root: Path) -> str:
    """A list in ``root/a`` with one line of every kind; the first has a byte order mark."""
    put(root / "a" / "one.mp4", b"1")
    put(root / "a" / "sub" / "two words #2.mp4", b"22")
    put(root / "three.mp4", b"333")
    put(root / "no extension", b"4444")
    (root / "a" / "folder.mp4").mkdir()
    lines = [
        "\ufeff# the first line",
        "one.mp4",
        "",
        "   ",
        "  sub/two words #2.mp4\r",
        f"{root}/three.mp4",
        f"file://{root}/no%20extension",
        "  # one.mp4 again",
        "one.mp4",
        "./one.mp4",
        "gone.mp4",
        "gone",
        "folder.mp4",
        "http://example.org/x.mp4",
        "s3://[bad/y.mp4",
    ]
    return str(put(root / "a" / "list.txt", "\n".join(lines).encode()))


def test_every_line_of_a_list_file_has_a_row_once(tmp_path: Path) -> None:
    build = build_manifest(write_list(tmp_path))
    assert dict(zip(ids(build), build.table["size_bytes"].to_pylist(), strict=True)) == {
        "one.mp4": 1,
        "sub/two words #2.mp4": 2,
        f"{tmp_path}/three.mp4": 3,
        f"file://{tmp_path}/no%20extension": 4,
        "gone.mp4": 0,
        "gone": 0,
        "folder.mp4": 0,
        "http://example.org/x.mp4": 0,
        "s3://[bad/y.mp4": 0,
    }
    assert row(build, "one.mp4")["uri"] == str(tmp_path / "a" / "one.mp4")


def test_lines_of_a_list_file_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    found = reasons(build_manifest(write_list(tmp_path)))
    assert found.pop("one.mp4") == "line 9 names the same file as line 2; the file counts once"
    assert found.pop("./one.mp4") == "line 10 names the same file as line 2; the file counts once"
    assert found.pop("gone.mp4") == found.pop("gone") == "No such file or directory"
    assert found.pop("folder.mp4") == "a folder, not a file"
    assert "unknown scheme 'http'; use file, s3" in found.pop("http://example.org/x.mp4")
    assert "Invalid IPv6 URL" in found.pop("s3://[bad/y.mp4")
    assert found == {}


def test_a_list_file_knows_dfdm_names_by_their_own_folders(tmp_path: Path) -> None:
    put(tmp_path / "crf10" / SWAP)
    put(tmp_path / "list.txt", f"crf10/{SWAP}\n".encode())
    build = build_manifest(str(tmp_path / "list.txt"))
    assert row(build, f"crf10/{SWAP}")["crf"] == 10


def test_a_pattern_matches_below_its_fixed_folders(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/b/2.mp4", "a/b/c/3.mp4", "a/b/c/x.txt", "a/.hidden/4.mp4", "z/5.mp4"):
        put(tmp_path / name)
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "gone.mp4").symlink_to("nowhere")
    cases = {
        "a/*.mp4": ["1.mp4", "gone.mp4"],
        "a/**/*.mp4": ["1.mp4", "b/2.mp4", "b/c/3.mp4", "gone.mp4"],
        "a/**/c/*.mp4": ["b/c/3.mp4"],
        "a/**/**/[23].mp4": ["b/2.mp4", "b/c/3.mp4"],
        "?/[15].mp4": ["a/1.mp4", "z/5.mp4"],
        "a/.*/*.mp4": [".hidden/4.mp4"],
        "*/b/2.mp4": ["a/b/2.mp4"],
    }
    found = {pattern: ids(build_manifest(f"{tmp_path}/{pattern}")) for pattern in cases}
    assert found == cases
    build = build_manifest(f"{tmp_path}/a/**")
    assert (ids(build), build.num_other_files) == (cases["a/**/*.mp4"], {"txt": 1})
    assert reasons(build) == {"gone.mp4": "No such file or directory", "b/up": FOLDER_HINT}


def test_a_folder_that_a_pattern_matches_is_told(tmp_path: Path) -> None:
    put(tmp_path / "DFDM_crf0" / SWAP)
    put(tmp_path / "a.mp4")
    build = build_manifest(f"{tmp_path}/*")
    assert ids(build) == ["a.mp4"]
    assert build.problems == (Problem(name="DFDM_crf0", reason=FOLDER_HINT),)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    put(tmp_path / "a[1].mp4")
    put(tmp_path / "a1.mp4")
    assert ids(build_manifest(str(tmp_path / "a[1].mp4"))) == ["a[1].mp4"]


def test_one_video_is_called_by_its_name(tmp_path: Path) -> None:
    path = put(tmp_path / "DFDM_crf23" / SWAP)
    for source in (str(path), f"file://{path}"):
        build = build_manifest(source)
        assert ids(build) == [SWAP]
        assert row(build, SWAP)["crf"] == 23
        assert row(build, SWAP)["uri"] == str(path)


def wrong_sources(root: Path) -> dict[str, str]:
    """Sources without videos, and words that the error must have."""
    (root / "empty").mkdir()
    put(root / "texts" / "a.txt")
    put(root / "texts" / "b.TXT")
    put(root / "texts" / "c.csv")
    put(root / "photo.jpg")
    put(root / "comments.txt", b"# nothing\n")
    put(root / "utf16.txt", "a.mp4\n".encode("utf-16"))
    put(root / "prose.txt", b"Dear reader,\nthese are words.\n")
    return {
        f"{root}/empty": "other files: 0; give a folder",
        f"{root}/texts": "other files: 3 (2 txt, 1 csv)",
        f"{root}/gone": "no such file or folder",
        f"{root}/gone\nb.mp4": "gone\\nb.mp4",
        f"{root}/\udcff.mp4": "\\udcff.mp4",
        f"{root}/photo.jpg": "has no extension of a video",
        f"{root}/comments.txt": "no videos in",
        f"{root}/utf16.txt": "save it as UTF-8",
        f"{root}/prose.txt": "problems: 2, the first is Dear reader,: No such file",
        f"{root}/*.mkv": "no videos in",
        f"{root}/gone/**/*.mp4": "No such file",
        "/dev/null": "not a regular file",
        "": "no such file or folder: ''",
        "http://example.org/a.mp4": "scheme 'http'",
        "s3://bucket/a/*.mp4": "patterns work on local files only",
        "s3://[bucket": "Invalid IPv6 URL",
    }


def test_a_source_without_videos_is_one_line_of_what_is_wrong(tmp_path: Path) -> None:
    for source, words in wrong_sources(tmp_path).items():
        with pytest.raises(UserError) as raised:
            build_manifest(source)
        text = str(raised.value)
        assert words in text
        text.encode("utf-8")
        assert "\n" not in text


def test_a_list_with_a_key_in_a_line_is_refused_without_repeating_it(tmp_path: Path) -> None:
    lines = put(tmp_path / "list.txt", b"s3://bucket/a.mp4\ns3://AKIA:hidden@bucket/b.mp4\n")
    with pytest.raises(
        UserError, match=r"the list of videos .*list\.txt has a key, a password or a token in a URI"
    ) as raised:
        build_manifest(str(lines))
    assert "hidden" not in str(raised.value)
