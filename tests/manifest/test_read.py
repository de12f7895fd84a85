from pathlib import Path

import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.manifest.build import build_manifest, with_real
from dfdm_ray.manifest.read import load_manifest


def put(path: Path, content: str = "video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_table_of_a_user_is_a_manifest(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "sub" / "b.mp4", "longer video")
    table = put(
        tmp_path / "mine.csv",
        "uri,generator,scene,crf,colour\n"
        f"{tmp_path}/a.mp4,DFL-H128,0001,10,red\nsub/b.mp4,My swapper,2,,blue\ngone.mp4,Real,,,\n",
    )
    manifest = load_manifest(str(table))
    assert manifest["generator"].to_pylist() == ["dfl-h128", "My swapper", "real"]
    assert manifest["uri"].to_pylist() == [
        str(tmp_path / name) for name in ("a.mp4", "sub/b.mp4", "gone.mp4")
    ]
    assert manifest["video_id"].to_pylist() == [f"{tmp_path}/a.mp4", "sub/b.mp4", "gone.mp4"]
    assert manifest["size_bytes"].to_pylist() == [5, 12, 0]
    assert manifest["scene"].to_pylist() == ["0001", "2", None]
    assert manifest["crf"].to_pylist() == [10, None, None]
    assert [value is None for value in manifest["modified_ns"].to_pylist()] == [False, False, True]
    build = build_manifest(str(table))
    assert build.table.equals(manifest)
    assert [*map(str, build.problems)] == ["gone.mp4: no such file, or it is empty"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "path,generator\na.mp4,iae\n",
            "needs the path of each video in a column uri; it has path, generator",
        ),
        ("uri,generator\n,iae\n", "needs the path of each video in a column uri"),
        ("uri,crf\na.mp4,high\n", "is no CSV file of this kind: .*high"),
        ("uri\na.mp4\na.mp4\n", "has 2 rows but only 1 different video_id"),
        ("", "is no CSV file of this kind"),
    ],
)
def test_a_table_that_is_no_manifest_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        load_manifest(str(put(tmp_path / "mine.csv", text)))
    assert "\n" not in str(raised.value)


def test_a_table_without_rows_is_an_empty_manifest(tmp_path: Path) -> None:
    assert load_manifest(str(put(tmp_path / "mine.csv", "uri,generator\n"))).num_rows == 0


def test_a_folder_of_real_videos_is_added_with_ids_of_its_own(tmp_path: Path) -> None:
    put(tmp_path / "dfdm" / "DFDM_crf10" / "id0_id1_0003_4dfaker.mp4")
    put(tmp_path / "Celeb-real" / "id0_0003.mp4")
    put(tmp_path / "Celeb-real" / "beach.mp4")
    both = with_real(build_manifest(str(tmp_path / "dfdm")), str(tmp_path / "Celeb-real"))
    rows = {row["video_id"]: row for row in both.table.to_pylist()}
    assert [*rows] == [
        "Celeb-real/beach.mp4",
        "Celeb-real/id0_0003.mp4",
        "DFDM_crf10/id0_id1_0003_4dfaker.mp4",
    ]
    assert [row["generator"] for row in rows.values()] == ["real", "real", "dfaker"]
    known = rows["Celeb-real/id0_0003.mp4"]
    assert (known["target_identity"], known["source_identity"], known["scene"]) == ("id0", None, "0003")
    with pytest.raises(UserError, match=r"contains Celeb-real/beach\.mp4, which --videos contains too"):
        with_real(both, str(tmp_path / "Celeb-real"))
