"""No network is in two splits of the methods strict and network, in whichever direction it swaps."""

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.generate.plan import Scene, real_paths, swap_paths
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.manifest.job import write
from dfdm_ray.jobs.manifest.split_report import show_splits, split_report
from dfdm_ray.jobs.manifest.splits import MAX_LEFT_OUT, Method, assign_splits, split_by_default
from dfdm_ray.labels import DFDM_TAGS, QUALITIES, Generator
from dfdm_ray.manifest.names import parse_path
from dfdm_ray.manifest.networks import pairs_of
from dfdm_ray.schemas import MANIFEST

NUM_PEOPLE, NUM_SWAPS = 59, 430
FACTS = ("generator", "crf", "target_identity", "source_identity", "scene")


def from_names(paths: Iterable[str]) -> pa.Table:
    rows = [
        {"video_id": path, "uri": path, "size_bytes": 1} | {name: getattr(facts, name) for name in FACTS}
        for path, facts in ((path, parse_path(path)) for path in paths)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def swapped(swaps: Iterable[str]) -> pa.Table:
    """All generators and qualities of each of ``swaps``, such as ``id0_id1_0000``."""
    return from_names(
        f"DFDM_crf{crf}/{swap}_{tag}.mp4" for swap in swaps for crf in QUALITIES for tag in DFDM_TAGS.values()
    )


@cache
def made_dfdm(kind: str) -> pa.Table:
    """6,450 videos of 59 people: 430 swaps for each generator and quality; the real pairs are not published.

    ``any source``: each recording has a source drawn from all people. ``one source``: all recordings of a
    target have the same one. ``groups``: sources are drawn from the target's group of 15 people.
    """
    rng = np.random.default_rng(0)
    fixed = [(target + int(rng.integers(1, NUM_PEOPLE))) % NUM_PEOPLE for target in range(NUM_PEOPLE)]
    swaps = []
    for number in range(NUM_SWAPS):
        target, scene = number % NUM_PEOPLE, number // NUM_PEOPLE
        near = [
            one
            for one in range(NUM_PEOPLE)
            if one != target and (kind != "groups" or one // 15 == target // 15)
        ]
        source = fixed[target] if kind == "one source" else rng.choice(near)
        swaps.append(f"id{target}_id{source}_{scene:04d}")
    return swapped(swaps)


def in_splits(table: pa.Table, columns: tuple[str, ...]) -> int:
    """In how many splits the value of ``columns`` is that is in most of them."""
    known = table.filter(pc.is_valid(table["split"])).select([*columns, "split"]).drop_null()
    return int(
        pc.max(
            known.group_by([*columns]).aggregate([("split", "count_distinct")])["split_count_distinct"]
        ).as_py()
    )


def printed(table: pa.Table) -> str:
    stream = io.StringIO()
    show_splits(split_report(table), Console(file=stream, width=160, force_terminal=False))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["any source", "one source", "groups"])
@pytest.mark.parametrize("method", ["strict", "network"])
def test_no_network_is_in_two_splits_of_a_made_up_dfdm(method: Method, kind: str) -> None:
    table = assign_splits(made_dfdm(kind), method=method, seed=1)
    table = table.append_column("pair", pairs_of(table))
    both = {(row["target_identity"], row["source_identity"]) for row in table.to_pylist()}
    if kind != "one source":
        assert any((b, a) in both for a, b in both)  # some networks swap in both directions
    assert in_splits(table, ("pair",)) == 1
    assert in_splits(table, ("pair", "generator")) == 1
    for name in ("train", "val", "test"):
        share = pc.sum(pc.equal(table["split"], name)).as_py() / pc.count(table["split"]).as_py()
        assert share == pytest.approx({"train": 0.7}.get(name, 0.15), abs=0.05)
    report = split_report(table.drop_columns("pair"))
    assert report.num_left_out == (table["split"].null_count if method == "strict" else 0)
    assert (report.shared["people"][0] == 0) == (method == "strict")
    assert report.leak == {"strict": None, "network": "people"}[method]


@pytest.mark.parametrize(
    ("kind", "method"), [("any source", "network"), ("one source", "strict"), ("groups", "strict")]
)
def test_the_default_is_strict_if_it_leaves_out_at_most_a_third(kind: str, method: str) -> None:
    table, line = split_by_default(made_dfdm(kind))
    report = split_report(table)
    assert report.method == method
    assert report.num_left_out <= MAX_LEFT_OUT * table.num_rows
    if method == "network":
        assert line.startswith("default split: network, because strict would leave out ")
    else:
        assert line == "default split: strict"


PAIRS = ("id0", "id1"), ("id2", "id3"), ("id4", "id5"), ("id6", "id10"), ("id7", "id8"), ("id9", "id11")


def generated(pairs: Iterable[tuple[str, str]]) -> pa.Table:
    """What ``generate`` makes: both directions of each pair, and the real scenes."""
    root, paths = Path("/made"), set()
    for pair in pairs:
        for target, source in (pair, pair[::-1]):
            for number in range(3):
                scene = Scene(identity=target, number=number, uri="v", frames=range(9))
                swaps = [swap_paths(root, scene, source, generator) for generator in Generator]
                paths |= {str(path) for one in (*swaps, real_paths(root, scene)) for path in one.values()}
    return from_names(sorted(paths))


@pytest.mark.parametrize("method", ["strict", "network"])
def test_both_directions_of_generates_networks_share_a_split(method: Method) -> None:
    table = assign_splits(generated(PAIRS), method=method)
    assert table["split"].null_count == 0
    table = table.append_column("pair", pairs_of(table))
    assert in_splits(table, ("pair",)) == 1
    splits = {(row["target_identity"], row["source_identity"]): row["split"] for row in table.to_pylist()}
    for a, b in PAIRS:
        assert splits[a, b] == splits[b, a]
    if method == "strict":  # a real scene goes with the swaps of its person
        assert all(splits[a, None] == splits[b, None] == splits[a, b] for a, b in PAIRS)
    assert {splits[pair] for pair in PAIRS} == {"train", "val", "test"}


def test_a_real_video_of_a_person_in_no_swap_has_a_strict_split_too() -> None:
    alone = from_names(f"real/crf0/id{number}_0000.mp4" for number in range(20, 30))
    table = assign_splits(pa.concat_tables([generated(PAIRS), alone]), method="strict")
    assert table["split"].null_count == 0
    assert split_report(table).leak is None


def test_strict_leaves_out_only_videos_of_two_splits() -> None:
    table = assign_splits(made_dfdm("any source"), method="strict")
    rows = table.to_pylist()
    split_of = {row[side]: row["split"] for row in rows if row["split"] for side in FACTS[2:4]}
    left_out = [row for row in rows if not row["split"]]
    assert left_out
    for row in left_out:
        ends = [split_of.get(row[side]) for side in FACTS[2:4]]
        assert None in ends or ends[0] != ends[1]
    assert f"left out, because their two people are in different splits: {len(left_out):,}" in printed(table)


FALLBACKS = [
    # the demo: two people are one network
    ([("id0", "id1")], "scene", "strict and network cannot split: 1 pair of identities is known, 3 splits"),
    # three people, all with all: three networks, but no two of them without a common person
    (
        [("id0", "id1"), ("id0", "id2"), ("id1", "id2")],
        "network",
        "strict cannot split: no 3 groups of people have videos only among themselves",
    ),
    # three pairs that share nobody
    ([("id0", "id1"), ("id2", "id3"), ("id4", "id5")], "strict", None),
]


@pytest.mark.parametrize(("pairs", "method", "reason"), FALLBACKS)
def test_the_default_for_few_people_is_the_next_method_and_one_line_says_why(
    pairs: list[tuple[str, str]], method: str, reason: str | None
) -> None:
    table, line = split_by_default(generated(pairs))
    assert split_report(table).method == method
    assert line.startswith(f"default split: {method}" + (f", because {reason}" if reason else ""))


def test_videos_without_sources_are_split_by_person_and_too_few_of_them_are_refused() -> None:
    real = from_names(f"real/crf0/id{number}_0000.mp4" for number in range(9))
    assert split_report(split_by_default(real)[0]).shared["people"] == (0, 9)
    with pytest.raises(UserError, match=r"2 scenes of a target are known, 3 splits .* give --split none"):
        split_by_default(real.slice(0, 2))


@pytest.mark.parametrize("method", ["strict", "network"])
def test_a_method_that_is_asked_for_is_not_replaced(method: Method) -> None:
    with pytest.raises(UserError, match=f"cannot split by {method}: 1 pair .* give --split scene"):
        assign_splits(generated([("id0", "id1")]), method=method)


def test_the_job_says_which_default_it_took_and_why(tmp_path: Path) -> None:
    for path in generated([("id0", "id1")])["uri"].to_pylist():
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.lstrip("/")).touch()
    stream = io.StringIO()
    config = ManifestConfig(videos=str(tmp_path), out=str(tmp_path / "m.parquet"))
    write(config, Console(file=stream, width=160))
    assert "default split: scene, because strict and network cannot split: 1 pair of" in stream.getvalue()
    assert "LEAKS networks, 5 of 5: splits share networks and people" in stream.getvalue()
