import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dfdm_ray.errors import IncompleteError, UserError
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.generate.job import require_made
from dfdm_ray.jobs.generate.plan import Identity
from dfdm_ray.jobs.generate.settings import dataset_folder, not_stored, require_networks


def people(**videos: tuple[str, ...]) -> list[Identity]:
    numbered = enumerate(sorted(videos.items()))
    return [Identity(id=f"id{number}", name=name, videos=uris) for number, (name, uris) in numbered]


CONFIG = GenerateConfig(identities="people", out="out")
FIRST = people(anna=("a.mp4", "b.mp4"), carl=("c.mp4",))


def begin(root: Path, identities: list[Identity], config: GenerateConfig = CONFIG) -> None:
    folder = dataset_folder(root, identities, config)
    with folder.recorded(folder.open_record(has_overwrite=False, defaults=not_stored(folder.settings))):
        pass


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (
            people(anna=("a.mp4", "b.mp4"), bob=("d.mp4",), carl=("c.mp4",)),
            r"identities\.bob\.0: None -> d\.mp4",
        ),
        (people(anna=("a.mp4", "b.mp4")), r"identities\.carl\.0: c\.mp4 -> None"),
        (
            people(anna=("0.mp4", "a.mp4", "b.mp4"), carl=("c.mp4",)),
            r"identities\.anna\.0: a\.mp4 -> 0\.mp4; .*anna\.2: None -> b\.mp4",
        ),
        (people(anna=tuple("abcdefghijkl"), carl=("c.mp4",)), r"identities\.anna\.0: .*; and 4 more"),
        (people(anna=("b.mp4", "a.mp4"), carl=("c.mp4",)), r"identities\.anna\.0: a\.mp4 -> b\.mp4; .*"),
    ],
)
def test_other_people_or_videos_on_the_same_folder_are_refused(
    tmp_path: Path, now: list[Identity], says: str
) -> None:
    begin(tmp_path, FIRST)
    begin(tmp_path, FIRST, replace(CONFIG, pairs=("anna:carl",)))
    with pytest.raises(UserError, match=rf"other settings \({says}\); .* or give a new --out"):
        begin(tmp_path, now)


@pytest.mark.parametrize("with_people", [True, False])
def test_a_folder_of_an_earlier_version_is_continued_and_then_has_a_record(
    tmp_path: Path, with_people: bool
) -> None:
    settings = asdict(CONFIG)
    names = ("smoothing", "max_frames", "detector", "train", "seed", "scene_frames")
    stored = {name: settings[name] for name in names}
    if with_people:
        stored["identities"] = {one.name: list(one.videos) for one in FIRST}
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "settings.json").write_text(json.dumps(stored))
    begin(tmp_path, FIRST)
    assert [run["status"] for run in json.loads((tmp_path / "run.json").read_text())["runs"]] == ["complete"]
    with pytest.raises(UserError, match=r"identities\.carl\.0: c\.mp4 -> None"):
        begin(tmp_path, FIRST[:1])


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    begin(tmp_path, FIRST)
    changed = replace(CONFIG, scene_frames=50, train=replace(CONFIG.train, width=0.5))
    with pytest.raises(UserError, match=r"\(scene_frames: 100 -> 50; train\.width: 1\.0 -> 0\.5\)"):
        begin(tmp_path, FIRST, changed)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(UserError, match=r"contains files but no run\.json \(holiday\.mp4\)"):
        begin(tmp_path, FIRST)


def test_networks_of_other_settings_or_people_are_refused(tmp_path: Path) -> None:
    begin(tmp_path, FIRST)
    with pytest.raises(UserError, match="is not a finished --out"):
        require_networks(tmp_path, FIRST, CONFIG)
    card = {"identities": [asdict(one) for one in FIRST]}
    (tmp_path / "dataset.json").write_text(json.dumps(card))
    require_networks(tmp_path, FIRST, replace(CONFIG, scene_frames=50))
    with pytest.raises(UserError, match=r"trained with other settings \(seed: 0 -> 1\)"):
        require_networks(tmp_path, FIRST, replace(CONFIG, seed=1))
    with pytest.raises(UserError, match="trained on other --identities"):
        require_networks(tmp_path, FIRST[:1], CONFIG)


def test_a_video_that_was_replaced_is_refused_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    """Its faces and networks are of the earlier video."""
    video, out = tmp_path / "a.mp4", tmp_path / "out"
    identities = people(anna=(str(video),), carl=("c.mp4",))
    video.write_bytes(b"first")
    begin(out, identities)
    video.write_bytes(b"other")
    with pytest.raises(
        UserError, match=r"other settings \(contents\.anna\.0: [0-9a-f]{64} -> [0-9a-f]{64}\)"
    ):
        begin(out, identities)
    video.unlink()
    begin(out, identities)
    video.write_bytes(b"other")
    with pytest.raises(UserError, match=r"contents\.anna\.0"):
        begin(out, identities)


def test_a_record_without_fingerprints_is_continued(tmp_path: Path) -> None:
    video, out = tmp_path / "a.mp4", tmp_path / "out"
    identities = people(anna=(str(video),), carl=("c.mp4",))
    begin(out, identities)  # the video is not there yet
    assert not_stored(stored(out)).keys() == {"train.geometry", "train.even_inputs"}
    video.write_bytes(b"first")
    begin(out, identities)
    assert not_stored(stored(out)).keys() == {"train.geometry", "train.even_inputs", "contents.anna.0"}


def stored(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text())["settings"])


def test_a_folder_without_the_newer_settings_is_continued_at_their_old_values(tmp_path: Path) -> None:
    begin(tmp_path, FIRST)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["settings"].pop("train.geometry") == 1.0
    (tmp_path / "run.json").write_text(json.dumps(record))
    begin(tmp_path, FIRST)
    with pytest.raises(UserError, match=r"train\.geometry: 1\.0 -> 0\.3"):
        begin(tmp_path, FIRST, replace(CONFIG, train=replace(CONFIG.train, geometry=0.3)))


def test_files_that_tasks_wrote_elsewhere_are_missed(tmp_path: Path) -> None:
    """As where each machine has a disk of its own."""
    (tmp_path / "a").touch()
    require_made([tmp_path / "a"], root=tmp_path)
    with pytest.raises(
        IncompleteError, match=r"1 of 2 files are not in .*, such as .*/b; run the same command"
    ):
        require_made([tmp_path / "a", str(tmp_path / "b")], root=tmp_path)


def test_weights_of_a_detector_are_identified_by_their_content(tmp_path: Path) -> None:
    first, copy = tmp_path / "first.onnx", tmp_path / "copy.onnx"
    for path in (first, copy):
        path.write_bytes(b"weights")
    first_job, copy_job = (
        replace(CONFIG, detector=replace(CONFIG.detector, weights=str(path))) for path in (first, copy)
    )
    begin(tmp_path / "out", FIRST, first_job)
    begin(tmp_path / "out", FIRST, copy_job)
    first.write_bytes(b"others")
    with pytest.raises(UserError, match=r"detector\.weights: [0-9a-f]{64} -> [0-9a-f]{64}"):
        begin(tmp_path / "out", FIRST, first_job)
    record = tmp_path / "out" / "run.json"  # from a version that stored the path
    record.write_text(record.read_text().replace(hashlib.sha256(b"weights").hexdigest(), str(first)))
    begin(tmp_path / "out", FIRST, first_job)
