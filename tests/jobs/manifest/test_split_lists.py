"""Splits by lists: every spelling of a name is found; names that match nothing or twice are reported."""

import io
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.manifest.job import write
from dfdm_ray.jobs.manifest.split_lists import split_by_lists
from dfdm_ray.labels import DFDM_TAGS, QUALITIES
from dfdm_ray.manifest.names import parse_path
from dfdm_ray.manifest.networks import pairs_of
from dfdm_ray.schemas import MANIFEST

PAIRS = ("id0_id1", "id1_id0", "id2_id3", "id4_id5", "id6_id7")


def row(video_id: str) -> dict[str, object]:
    facts = parse_path(video_id)
    names = ("generator", "crf", "target_identity", "source_identity", "scene")
    return {
        "video_id": video_id,
        "uri": video_id,
        "size_bytes": 1,
        **{one: getattr(facts, one) for one in names},
    }


def manifest(*more: str) -> pa.Table:
    ids = [
        f"DFDM_crf{crf}/{generator}/{pair}_0000_{tag}.mp4"
        for pair in PAIRS
        for crf in QUALITIES
        for generator, tag in DFDM_TAGS.items()
    ]
    return pa.Table.from_pylist([row(video_id) for video_id in (*ids, *more)], schema=MANIFEST)


def split(
    tmp_path: Path, train: str | bytes, test: str, table: pa.Table | None = None
) -> tuple[dict[str, str | None], list[str]]:
    """Return the split of each video and the problems."""
    (tmp_path / "train.txt").write_bytes(train if isinstance(train, bytes) else train.encode())
    (tmp_path / "test.txt").write_text(test)
    lists = {f"{name}_list": str(tmp_path / f"{name}.txt") for name in ("train", "test")}
    done, problems = split_by_lists(manifest() if table is None else table, **lists, seed=0)
    return dict(zip(done["video_id"].to_pylist(), done["split"].to_pylist(), strict=True)), [
        *map(str, problems)
    ]


def swaps(
    pair: str, *, crfs: tuple[int, ...] = QUALITIES, tags: tuple[str, ...] = tuple(DFDM_TAGS.values())
) -> set[str]:
    ids = manifest()["video_id"].to_pylist()
    return {
        one
        for one in ids
        if any(f"crf{crf}/" in one for crf in crfs)
        and one.endswith(tuple(f"{pair}_0000_{tag}.mp4" for tag in tags))
    }


REST = "id2_id3_0000\nid4_id5_0000\nid6_id7_0000\n"
"""A train list that names every swap of three pairs."""

IAE, ALL_QUALITIES = ("3iae",), QUALITIES

SPELLINGS = [
    # without folder: all qualities; with ending, without, in other case
    ("id0_id1_0000_3iae.mp4", QUALITIES, IAE),
    ("id0_id1_0000_3iae", QUALITIES, IAE),
    ("ID0_ID1_0000_3IAE.MP4", QUALITIES, IAE),
    # another ending: that of frames or of another encoding
    ("id0_id1_0000_3iae.avi", QUALITIES, IAE),
    # with folders: only this quality
    ("DFDM_crf10/iae/id0_id1_0000_3iae.mp4", (10,), IAE),
    ("DFDM_crf10\\iae\\id0_id1_0000_3iae", (10,), IAE),
    # folders of the authors' machine
    ("/home/shan/DFDM_crf23/IAE_videos/id0_id1_0000_3iae.mp4", (23,), IAE),
    ("../data/Frame_10_cfr10_train/df3/id0_id1_0000_3iae", QUALITIES, IAE),
    # a class beside the name, before or after, and a comment
    ("id0_id1_0000_3iae.mp4 2", QUALITIES, IAE),
    ("2,id0_id1_0000_3iae.mp4", QUALITIES, IAE),
    ('"id0_id1_0000_3iae.mp4","iae"', QUALITIES, IAE),
    ("id0_id1_0000_3iae.mp4  # hard", QUALITIES, IAE),
    # without a tag: all generators, or that of the folder
    ("id0_id1_0000", QUALITIES, tuple(DFDM_TAGS.values())),
    ("IAE/id0_id1_0000.mp4", QUALITIES, IAE),
    ("crf0/id0_id1_0000", (0,), tuple(DFDM_TAGS.values())),
]


@pytest.mark.parametrize(("line", "crfs", "tags"), SPELLINGS)
def test_a_name_is_found_in_every_spelling(
    tmp_path: Path, line: str, crfs: tuple[int, ...], tags: tuple[str, ...]
) -> None:
    found, problems = split(tmp_path, REST, line + "\n")
    assert {one for one, name in found.items() if name == "test"} == swaps("id0_id1", crfs=crfs, tags=tags)
    assert problems == []


def test_comments_blank_lines_line_ends_of_windows_and_a_byte_order_mark_are_no_names(tmp_path: Path) -> None:
    train = b"\xef\xbb\xbf# training set\r\n\r\nid2_id3_0000\r\n  id4_id5_0000  \r\n"
    found, problems = split(tmp_path, train, "id0_id1_0000")
    assert problems == []
    assert {found[one] for one in swaps("id2_id3") | swaps("id4_id5")} == {"train", "val"}
    assert {found[one] for one in swaps("id6_id7") | swaps("id1_id0")} == {None}  # in neither list


@pytest.mark.parametrize("seed", range(4))
def test_val_is_taken_from_train_by_network_in_both_directions(tmp_path: Path, seed: int) -> None:
    names = [f"id{a}_id{b}_0000" for a in range(8) for b in range(8) if a != b]
    table = pa.Table.from_pylist(
        [row(f"DFDM_crf{crf}/{name}_3iae.mp4") for name in names for crf in QUALITIES], schema=MANIFEST
    )
    (tmp_path / "train").write_text("\n".join(names[:-4]))
    (tmp_path / "test").write_text("\n".join(names[-4:]))
    done, _ = split_by_lists(
        table, train_list=str(tmp_path / "train"), test_list=str(tmp_path / "test"), seed=seed
    )
    done = done.append_column("pair", pairs_of(done))
    pairs = {
        name: {
            pair
            for pair, one in zip(done["pair"].to_pylist(), done["split"].to_pylist(), strict=True)
            if one == name
        }
        for name in ("train", "val")
    }
    assert not pairs["train"] & pairs["val"]
    assert len(pairs["val"]) / len(pairs["train"] | pairs["val"]) == pytest.approx(1 / 7, abs=0.05)


def test_names_that_match_nothing_or_twice_or_repeat_or_cross_are_reported(tmp_path: Path) -> None:
    copy = "copies/DFDM_crf10/iae/id6_id7_0000_3iae.mp4"
    train = "id2_id3_0000\nid4_id5_0000\nid9_id8_0000_3iae.mp4\nid2_id3_0000_3iae\niae/id6_id7_0000_3iae\n"
    found, problems = split(
        tmp_path, train, "id0_id1_0000\nDFDM_crf0/iae/id2_id3_0000_3iae.mp4", manifest(copy)
    )
    original = "DFDM_crf10/iae/id6_id7_0000_3iae.mp4"
    crossing = "DFDM_crf0/iae/id2_id3_0000_3iae.mp4"
    assert problems == [
        "train list, line 3: id9_id8_0000_3iae.mp4: matches no video",
        "train list, line 4: id2_id3_0000_3iae: names a video of line 1 again; it counts once",
        "train list, line 5: iae/id6_id7_0000_3iae: matches several videos of one quality, all now in train: "
        f"{original}, {copy}",
        f"{crossing}: in both lists (train line 1 and test line 2); it has no split",
    ]
    assert found[crossing] is None
    assert found[copy] == found[original] is not None


def test_names_of_another_data_set_are_found_with_val_by_pair(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        [row(f"{group}/{name}") for group in "ab" for name in ("x.v1.mp4", "clip 2 # b.mp4")]
        + [row("id0_id1_0000_3iae.mp4"), row("id2_id3_0000_3iae.mp4")],
        schema=MANIFEST,
    )
    found, problems = split(tmp_path, "id0_id1_0000\nid2_id3_0000\na/x.v1\n", "b/clip 2 # b.mp4\n", table)
    assert problems == []
    assert (found["a/x.v1.mp4"], found["b/clip 2 # b.mp4"], found["b/x.v1.mp4"]) == ("train", "test", None)
    assert {found["id0_id1_0000_3iae.mp4"], found["id2_id3_0000_3iae.mp4"]} == {"train", "val"}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("x.mp4\ny.mp4\n", "id0_id1_0000", r"train list .* names none .*: 2 names .* line 1: x.mp4"),
        ("id0_id1_0000", "# nothing\n", "test list .* names none of the videos: 0 names"),
        ("id0_id1_0000\nid1_id0_0000", "id2_id3_0000", "names too few pairs of identities, 1; at least two"),
    ],
)
def test_lists_that_cannot_be_used_are_one_clear_line(
    tmp_path: Path, train: str, test: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        split(tmp_path, train, test)


def test_a_missing_list_and_a_picture_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("id2_id3_0000\nid4_id5_0000")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\0")
    for test, message in (("gone", "cannot read the test list"), ("b.png", "the test list .* is not UTF-8")):
        with pytest.raises(UserError, match=message):
            split_by_lists(
                manifest(), train_list=str(tmp_path / "a.txt"), test_list=str(tmp_path / test), seed=0
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "lists"}, "needs --train-list and --test-list"),
        ({"split": "lists", "test_list": "a"}, "needs --train-list and --test-list"),
        ({"train_list": "a", "test_list": "b"}, "need --split lists"),
    ],
)
def test_lists_and_the_split_by_lists_need_each_other(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ManifestConfig(videos="x", **options)  # type: ignore[arg-type]


def test_the_job_splits_by_lists_and_reports_names_that_match_nothing(tmp_path: Path) -> None:
    for video_id in manifest()["video_id"].to_pylist():
        path = tmp_path / "in" / video_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "train.txt").write_text("id2_id3_0000\nid4_id5_0000\nid6_id7_0000\nlost.mp4\n")
    (tmp_path / "test.txt").write_text("id0_id1_0000\n")
    out = str(tmp_path / "m.parquet")
    config = ManifestConfig(
        videos=str(tmp_path / "in"),
        out=out,
        split="lists",
        train_list=str(tmp_path / "train.txt"),
        test_list=str(tmp_path / "test.txt"),
    )
    stream = io.StringIO()
    write(config, Console(file=stream, width=160))
    assert "split by lists, seed 0" in stream.getvalue()
    assert "train list, line 4: lost.mp4: matches no video" in stream.getvalue()
    assert "left out, because neither list names them, or both do: 15" in stream.getvalue()
    splits = storage.read_parquet(out, what="manifest")["split"].to_pylist()
    assert {name: splits.count(name) for name in ("train", "val", "test", None)} == {
        "train": 30,
        "val": 15,
        "test": 15,
        None: 15,
    }
    assert "lost.mp4" in (tmp_path / "m.problems.csv").read_text()
