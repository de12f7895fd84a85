import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.crops_rows import Crops, make_crops, prepared_row, rejected_row, write_index

from dfdm_ray.clips.cut import ClipFacts
from dfdm_ray.errors import UserError, VideoRejectedError
from dfdm_ray.io.images import PNG_HEADER_BYTES, png
from dfdm_ray.io.lending import Files
from dfdm_ray.jobs.png_tree.config import PngTreeExport
from dfdm_ray.jobs.png_tree.read import ReadFolders, class_of, first_size, list_tree
from dfdm_ray.jobs.png_tree.write import choose_videos, write_tree
from dfdm_ray.labels import GENERATORS
from dfdm_ray.schemas import MANIFEST

T, S = 11, 8


def put_frames(folder: Path, crops: Crops, name: str = "Frame{}.png", first: int = 1) -> Path:
    folder.mkdir(parents=True)
    for number, crop in enumerate(crops, start=first):
        (folder / name.format(number)).write_bytes(png(crop))
    return folder


def frames() -> Crops:
    return make_crops(clips=1, frames=T, size=S)[0]


def read(folder: Path) -> Crops:
    work = ReadFolders(num_frames=T, size=S)
    (clips,) = work.clips(Files(work.files(str(folder))), ClipFacts())
    return clips.crops


def rejection(folder: Path) -> str:
    with pytest.raises(VideoRejectedError) as rejected:
        read(folder)
    return str(rejected.value)


@pytest.mark.parametrize(("name", "first"), [("Frame{}.png", 1), ("{:03d}.PNG", 0), ("id0_clip2_f{}.png", 1)])
def test_frames_are_taken_by_number_and_not_by_name(name: str, first: int, tmp_path: Path) -> None:
    pictures = frames()
    crops = read(put_frames(tmp_path / "df1" / "Video1", pictures, name, first))
    assert crops.shape == (1, T, S, S, 3)
    assert np.array_equal(crops[0], pictures)


def test_both_spellings_of_classes_are_known_and_no_others() -> None:
    for number, generator in enumerate(GENERATORS, start=1):
        assert class_of(f"/x/DF_class{number}/Video1") == generator
        assert class_of(f"s3://bucket/x/df{number}/Video1?region=eu") == generator
    for name in ("DF_class6", "DF_class0", "df12", "class1", "mydf1", "Video1"):
        assert class_of(f"/x/{name}/Video1") is None


@pytest.mark.parametrize(
    ("folder", "crf", "split"),
    [
        ("train/DF_class2/Video1", None, "train"),
        ("Frame_10_cfr10_test/DF_class2/Video1", 10, "test"),
        ("DFDM_crf23/val/DF_class2/Video1", 23, "val"),
        ("train/old/test/DF_class2/Video1", None, "test"),
        ("none/DF_class2/Video1", None, None),
        ("training/DF_class2/train", None, None),  # the video's own name tells nothing
    ],
)
def test_folders_above_the_class_tell_split_and_quality(
    folder: str, crf: int | None, split: str | None, tmp_path: Path
) -> None:
    put_frames(tmp_path / "tree" / folder, frames())
    table, _ = list_tree(str(tmp_path / "tree"))
    assert table.schema.equals(MANIFEST)
    row = table.to_pylist()[0]
    assert (row["video_id"], row["generator"], row["crf"], row["split"]) == (
        folder,
        "lightweight",
        crf,
        split,
    )
    assert list_tree(str(tmp_path / "tree"), crf=0)[0]["crf"].to_pylist() == [0]


def test_the_tree_itself_may_be_the_split_or_the_class(tmp_path: Path) -> None:
    put_frames(tmp_path / "test" / "df4" / "Video1", frames())
    split = list_tree(str(tmp_path / "test"))[0].to_pylist()[0]
    assert (split["video_id"], split["generator"], split["split"]) == ("df4/Video1", "dfaker", "test")
    assert list_tree(f"{tmp_path}/test/df4")[0].to_pylist()[0]["generator"] == "dfaker"


def test_every_folder_with_frames_or_without_anything_is_a_video(tmp_path: Path) -> None:
    put_frames(tmp_path / "DF_class1" / "Video10", frames())
    put_frames(tmp_path / "DF_class7" / "Video1", frames())
    (tmp_path / "DF_class1" / "Video2").mkdir()
    (tmp_path / "DF_class1" / "Vidéo #3").mkdir()
    (tmp_path / "DF_class1" / "Vidéo #3" / "notes.txt").touch()
    (tmp_path / "videos.csv").touch()
    table, _ = list_tree(str(tmp_path))
    ids = ["DF_class1/Video10", "DF_class1/Video2", "DF_class1/Vidéo #3", "DF_class7/Video1"]
    assert table["video_id"].to_pylist() == ids
    assert table["generator"].to_pylist() == ["faceswap"] * 3 + [None]
    assert rejection(tmp_path / "DF_class1" / "Video2") == "unfit_frames: 0 frames, expected 11"
    assert "0 frames" in rejection(tmp_path / "DF_class1" / "Vidéo #3")
    assert "the folder above, DF_class7, is not one of" in rejection(tmp_path / "DF_class7" / "Video1")


def test_folders_that_are_not_read_are_told(tmp_path: Path) -> None:
    put_frames(tmp_path / "tree" / "DF_class1" / "Video1", frames())
    put_frames(tmp_path / "elsewhere" / "Video1", frames())
    (tmp_path / "tree" / "DF_class2").symlink_to("../elsewhere")
    (tmp_path / "tree" / "DF_class1" / "Video2").symlink_to("../../elsewhere/Video1")
    table, not_listed = list_tree(str(tmp_path / "tree"))
    assert table["video_id"].to_pylist() == ["DF_class1/Video1"]
    link = "a link to a folder; such links are not followed"
    assert sorted(not_listed) == [f"DF_class1/Video2: {link}", f"DF_class2: {link}"]


def test_what_is_no_tree_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list_tree(str(tmp_path / "gone"))
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match="no PNG frames below"):
        list_tree(str(tmp_path))
    (tmp_path / "DF_class1").symlink_to("gone")
    with pytest.raises(UserError, match=r"no PNG frames below .*; DF_class1: No such file or directory"):
        list_tree(str(tmp_path))


def spoil(folder: Path, kind: str) -> None:
    if kind == "missing":
        (folder / "Frame3.png").unlink()
        (folder / "Frame12.png").write_bytes(png(frames()[0]))
    elif kind == "first missing":
        (folder / "Frame1.png").rename(folder / "Frame12.png")
    elif kind == "too few":
        (folder / f"Frame{T}.png").unlink()
    elif kind == "too many":
        (folder / f"Frame{T + 1}.png").write_bytes(png(frames()[0]))
    elif kind == "other size":
        (folder / "Frame5.png").write_bytes(png(make_crops(1, 1, 9)[0, 0]))
    elif kind == "not square":
        (folder / "Frame5.png").write_bytes(png(make_crops(1, 1, 9)[0, 0, :8]))
    elif kind == "no number":
        (folder / "Frame5.png").rename(folder / "cover.png")
    elif kind == "dates":
        for number in range(1, T + 1):
            (folder / f"Frame{number}.png").rename(folder / f"Frame_202301011200{number:02d}.png")
    elif kind == "number twice":
        (folder / "Frame02.png").write_bytes(png(frames()[0]))
    elif kind == "empty":
        (folder / "Frame5.png").write_bytes(b"")
    elif kind == "damaged":
        (folder / "Frame5.png").write_bytes((folder / "Frame5.png").read_bytes()[:60])
    elif kind == "dead link":
        (folder / "Frame5.png").unlink()
        (folder / "Frame5.png").symlink_to("gone.png")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "unfit_frames: frame 3 is missing; found 11, expected 11"),
        ("first missing", "unfit_frames: frame 1 is missing; found 11, expected 11"),
        ("too few", "unfit_frames: 10 frames, expected 11"),
        ("too many", "unfit_frames: 12 frames, expected 11"),
        ("other size", "unfit_frames: Frame5.png has 9 x 9 pixels, expected 8 x 8"),
        ("not square", "unfit_frames: Frame5.png has 9 x 8 pixels, expected 8 x 8"),
        ("no number", "unfit_frames: cover.png has no frame number"),
        (
            "dates",
            "unfit_frames: frame 1, 2, 3, ... is missing; found 11, expected 11",
        ),
        ("number twice", "unfit_frames: Frame02.png and Frame2.png have the same number"),
        ("empty", "decode_error: Frame5.png: an empty file"),
        ("damaged", "decode_error: Frame5.png: not an image that OpenCV can decode"),
        ("dead link", "unreadable: Frame5.png: No such file or directory"),
    ],
)
def test_a_spoilt_folder_is_rejected_with_the_reason(kind: str, says: str, tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "df1" / "Video1", frames())
    spoil(folder, kind)
    assert rejection(folder) == says


def test_a_folder_that_went_away_is_rejected(tmp_path: Path) -> None:
    assert rejection(tmp_path / "df1" / "gone").startswith("unreadable: no such folder")


def test_the_first_square_frame_tells_the_size(tmp_path: Path) -> None:
    put_frames(tmp_path / "df1" / "a", make_crops(1, 1, 9)[:, 0, :8])
    (tmp_path / "df1" / "a" / "Frame2.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="no frame of the tree is a square PNG"):
        first_size(list_tree(str(tmp_path))[0])
    put_frames(tmp_path / "df1" / "b", frames())
    assert first_size(list_tree(str(tmp_path))[0]) == S


def test_the_size_is_read_without_decoding_a_picture(tmp_path: Path) -> None:
    folder = tmp_path / "df1" / "a"
    put_frames(folder, frames()[:1])
    (folder / "Frame0.png").write_bytes(b"\x89PNG and no more")
    cut = (folder / "Frame1.png").read_bytes()[:PNG_HEADER_BYTES]
    (folder / "Frame1.png").write_bytes(cut)
    assert first_size(list_tree(str(tmp_path))[0]) == S


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, dict[str, Crops]]:
    """Four videos of two clips, one without a generator, one rejected; two qualities."""
    root = tmp_path / "crops dataset"
    facts: dict[str, dict[str, Any]] = {
        "ü.mp4": {"generator": "iae", "crf": 10, "split": "train"},
        "b.mp4": {"generator": "iae", "crf": 10, "split": "train"},
        "c.mp4": {"generator": "dfl-h128", "crf": 10},
        "d.mp4": {"crf": 10, "split": "test"},
        "e.mp4": {"generator": "iae", "crf": 23, "split": "test"},
    }
    crops = {name: make_crops(2, T, S) for name in facts}
    rows = [prepared_row(root, name, crops[name], **values) for name, values in facts.items()]
    write_index(root, *rows, rejected_row("f.mp4"))
    return root, crops


def export(root: Path, tree: Path, **options: Any) -> int:
    config = PngTreeExport(crops=str(root), tree=str(tree), **options)
    return write_tree(config, choose_videos(config)[0], Console(quiet=True))


def test_a_dataset_goes_to_a_tree_and_back_bit_for_bit(
    dataset: tuple[Path, dict[str, Crops]], tmp_path: Path
) -> None:
    root, crops = dataset
    assert export(root, tmp_path / "tree", crf=(10,)) == 6
    with (tmp_path / "tree" / "videos.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["folder"], line["video_id"], line["clip"]) for line in lines] == [
        ("train/DF_class3/Video1", "b.mp4", "0"),
        ("train/DF_class3/Video2", "b.mp4", "1"),
        ("none/DF_class5/Video1", "c.mp4", "0"),
        ("none/DF_class5/Video2", "c.mp4", "1"),
        ("train/DF_class3/Video3", "ü.mp4", "0"),
        ("train/DF_class3/Video4", "ü.mp4", "1"),
    ]
    rows = {row["video_id"]: row for row in list_tree(str(tmp_path / "tree"))[0].to_pylist()}
    assert sorted(rows) == sorted(line["folder"] for line in lines)
    for line in lines:
        row = rows[line["folder"]]
        assert (row["generator"], row["split"] or "") == (line["generator"], line["split"])
        clip = read(Path(row["uri"]))[0]
        assert np.array_equal(clip, crops[line["video_id"]][int(line["clip"])])


def test_class_folders_may_have_the_names_of_the_published_loader(
    dataset: tuple[Path, dict[str, Crops]], tmp_path: Path
) -> None:
    export(dataset[0], tmp_path / "tree", crf=(10, 23), class_folder="df")
    assert (tmp_path / "tree" / "test" / "df3" / "Video1" / "Frame11.png").exists()


def test_an_export_continues_its_own_tree_and_touches_no_other(
    dataset: tuple[Path, dict[str, Crops]], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    export(dataset[0], tree, crf=(10,))
    frame = tree / "train" / "DF_class3" / "Video2" / "Frame10.png"
    before = frame.read_bytes()
    frame.unlink()
    export(dataset[0], tree, crf=(10,))
    assert frame.read_bytes() == before
    with pytest.raises(UserError, match="contains something else"):
        export(dataset[0], tree, crf=(23,))
    (tree / "videos.csv").unlink()
    with pytest.raises(UserError, match="contains something else"):
        export(dataset[0], tree, crf=(10,))


def test_an_export_that_stopped_at_its_first_file_is_continued(
    dataset: tuple[Path, dict[str, Crops]], tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "videos.csv.0123abcd.part").touch()
    assert export(dataset[0], tmp_path / "tree", crf=(10,)) == 6


def test_a_frame_that_was_replaced_changes_the_time_of_its_video(tmp_path: Path) -> None:
    folder = put_frames(tmp_path / "DF_class1" / "Video1", frames())
    for number, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, ns=(1, number + 1))
    assert list_tree(str(tmp_path))[0]["modified_ns"].to_pylist() == [len(frames())]


def test_qualities_that_a_tree_would_mix_are_asked_for(dataset: tuple[Path, dict[str, Crops]]) -> None:
    root = str(dataset[0])
    with pytest.raises(UserError, match="has crops of crf 10, 23, which a tree cannot distinguish"):
        choose_videos(PngTreeExport(crops=root, tree="t"))
    with pytest.raises(UserError, match=r"--crf 0: .* has crops of crf 10, 23 only"):
        choose_videos(PngTreeExport(crops=root, tree="t", crf=(0, 10)))
    videos, num_unknown = choose_videos(PngTreeExport(crops=root, tree="t", crf=(10,)))
    assert (videos.num_rows, num_unknown) == (3, 1)


def test_a_dataset_without_generators_makes_no_tree(tmp_path: Path) -> None:
    write_index(tmp_path, prepared_row(tmp_path, "a", make_crops()))
    with pytest.raises(UserError, match=r"no video of .* has a known generator"):
        choose_videos(PngTreeExport(crops=str(tmp_path), tree="t"))
