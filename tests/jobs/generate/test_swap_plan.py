from pathlib import Path
from typing import Any

import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.plan import (
    Identity,
    Scene,
    choose_pairs,
    cut_scenes,
    read_identities,
    real_paths,
    swap_paths,
    trainings_per_gpu,
)
from dfdm_ray.labels import GENERATORS, Generator
from dfdm_ray.manifest.names import parse_path

PEOPLE = [Identity(id=f"id{n}", name=name, videos=()) for n, name in enumerate(("anna", "bob", "cem"))]


def people(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "v.mp4").write_bytes(b"x")
    return root


def test_a_folder_of_folders_gives_identities_in_order_of_their_names(tmp_path: Path) -> None:
    found = read_identities(str(people(tmp_path, "zoe", "anna")))
    assert [(one.id, one.name) for one in found] == [("id0", "anna"), ("id1", "zoe")]
    assert found[0].videos == (str(tmp_path / "anna" / "v.mp4"),)


def test_a_csv_gives_identities_with_videos_relative_to_it(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("identity,video\nbob,b/1.mp4\nanna,a.mp4\nbob,s3://x/2.mp4\n")
    found = read_identities(str(table))
    assert [one.name for one in found] == ["anna", "bob"]
    assert found[1].videos == (str(tmp_path / "b/1.mp4"), "s3://x/2.mp4")


def test_videos_of_a_csv_mean_the_same_in_workers_with_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text(f"identity,video\nanna,a.mp4\nbob,{tmp_path}/b.mp4\n")
    found = read_identities("people.csv")
    assert [one.videos for one in found] == [(f"{tmp_path}/a.mp4",), (f"{tmp_path}/b.mp4",)]
    people(Path("folder"), "anna", "bob")
    assert read_identities("folder")[0].videos == (f"{tmp_path}/folder/anna/v.mp4",)


def test_one_identity_or_no_source_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 1 identities \(anna\); a swap needs at least two"):
        read_identities(str(people(tmp_path / "a", "anna")))
    with pytest.raises(UserError, match="neither a folder"):
        read_identities(str(tmp_path / "gone"))
    (tmp_path / "bad.csv").write_text("person,clip\na,b\n")
    with pytest.raises(UserError, match="line 2 needs the columns identity and video"):
        read_identities(str(tmp_path / "bad.csv"))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "anna").mkdir()
    with pytest.raises(UserError, match="no videos"):
        read_identities(str(tmp_path / "none"))


def test_all_pairs_are_taken_unless_some_are_named_or_sampled() -> None:
    everything = [("id0", "id1"), ("id0", "id2"), ("id1", "id2")]
    assert choose_pairs(PEOPLE, (), sample=None, seed=0) == everything
    assert choose_pairs(PEOPLE, ("cem:anna",), sample=None, seed=0) == [("id0", "id2")]
    assert choose_pairs(PEOPLE, (), sample=9, seed=0) == everything
    sampled = choose_pairs(PEOPLE, (), sample=2, seed=3)
    assert len(sampled) == 2
    assert sampled == choose_pairs(PEOPLE, (), sample=2, seed=3)


def test_names_win_over_the_ids_given_here() -> None:
    names = sorted(f"id{number}" for number in (0, 1, 2, 10))  # id10 comes before id2 and gets its id
    known = [Identity(id=f"id{n}", name=name, videos=()) for n, name in enumerate(names)]
    assert choose_pairs(known, ("id1:id2",), sample=None, seed=0) == [("id1", "id3")]
    assert choose_pairs(known, ("id0:id3",), sample=None, seed=0) == [("id0", "id3")]


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("anna:dora", "unknown identity 'dora'"),
        ("anna", "anna is not a pair; give two identities such as id0:id1"),
        ("bob:bob", "bob:bob is not a pair"),
    ],
)
def test_a_pair_that_is_none_is_told(pair: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_pairs(PEOPLE, (pair,), sample=None, seed=0)


def test_scenes_come_from_each_video_in_turn() -> None:
    person = Identity(id="id4", name="eve", videos=("a", "b", "c"))
    spans = {"a": [range(0, 5), range(5, 10)], "b": [range(3, 8)]}
    scenes = cut_scenes(person, spans, limit=9)
    assert [(scene.number, scene.uri, scene.frames.start) for scene in scenes] == [
        (0, "a", 0),
        (1, "b", 3),
        (2, "a", 5),
    ]
    assert len(cut_scenes(person, spans, limit=2)) == 2


@pytest.mark.parametrize("generator", list(Generator))
def test_names_are_dfdms_and_are_read_back(generator: Generator) -> None:
    scene = Scene(identity="id2", number=7, uri="v.mp4", frames=range(9))
    for crf, path in swap_paths(Path("root"), scene, "id5", generator).items():
        facts = parse_path(str(path.relative_to("root")))
        assert (facts.target_identity, facts.source_identity, facts.scene) == ("id2", "id5", "0007")
        assert (facts.generator, facts.crf, facts.reasons) == (generator, crf, ())
    for crf, path in real_paths(Path("root"), scene).items():
        facts = parse_path(str(path.relative_to("root")))
        found = (facts.target_identity, facts.scene, facts.generator, facts.crf)
        assert found == ("id2", "0007", "real", crf)
    assert len(GENERATORS) == 5


def test_a_csv_with_a_key_is_refused_without_repeating_it(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("identity,video\n,s3://AKIA:hidden@bucket/a.mp4\n")
    with pytest.raises(UserError, match=r"people\.csv has a key, a password or a token in a URI") as raised:
        read_identities(str(tmp_path / "people.csv"))
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("memory_gib", "values", "trainings"),
    [
        (8, {}, 1),
        (15, {}, 2),
        (24, {}, 4),
        (80, {}, 4),
        (80, {"batch_size": 256}, 2),
        (1, {"width": 0.25}, 1),
    ],
)
def test_as_many_trainings_share_a_gpu_as_fit_it(
    memory_gib: float, values: dict[str, Any], trainings: int
) -> None:
    assert trainings_per_gpu(memory_gib, SwapTrainConfig(**values)) == trainings
