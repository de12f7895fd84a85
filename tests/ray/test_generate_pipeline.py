import io
import json
import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console

from dfdm_ray import assets
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.generate import job
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.job import generate, unfinished
from dfdm_ray.labels import Generator

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TRAIN = SwapTrainConfig(iterations=3, width=0.03, batch_size=2, face_px=64)
GENERATORS = (Generator.FACESWAP, Generator.DFL_H128)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for name, video in (("driver", "carphone_pristine.mp4"), ("man", "single_face.mp4")):
        (root / name).mkdir()
        shutil.copy(assets.get(video), root / name)
    shutil.copy(assets.get("no_face.mp4"), root / "man")
    return root


def config(people: Path, out: Path, train: SwapTrainConfig = TRAIN) -> GenerateConfig:
    return GenerateConfig(
        identities=str(people),
        out=str(out),
        generators=GENERATORS,
        scene_frames=8,
        scenes_per_identity=2,
        max_frames=20,
        train=train,
    )


def run(job: GenerateConfig) -> str:
    out = io.StringIO()
    generate(job, Console(file=out, width=120))
    return out.getvalue()


@pytest.fixture(scope="module")
def made(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "out"
    text = run(config(people, out))
    assert "left out" in text
    assert "no_face.mp4: no_face" in text
    return out


def videos(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.mp4")}


def test_the_dataset_has_every_generator_quality_direction_and_scene(made: Path) -> None:
    names = {
        f"DFDM_crf{crf}/{generator}/{pair}_{scene:04d}_{tag}.mp4"
        for crf in (0, 10, 23)
        for generator, tag in (("faceswap", "1original"), ("dfl-h128", "5dfl-h128"))
        for pair in ("id0_id1", "id1_id0")
        for scene in (0, 1)
    }
    real = {f"real/crf{crf}/id{n}_{scene:04d}.mp4" for crf in (0, 10, 23) for n in (0, 1) for scene in (0, 1)}
    assert set(videos(made)) == names | real


def test_the_manifest_and_the_card_tell_the_truth(made: Path) -> None:
    table = pq.read_table(made / "manifest.parquet")
    assert table.num_rows == 24 + 12
    assert sorted(set(table["generator"].to_pylist())) == ["dfl-h128", "faceswap", "real"]
    card = json.loads((made / "dataset.json").read_text())
    assert card["num_swapped_videos"] == 24
    assert [person["name"] for person in card["identities"]] == ["driver", "man"]
    assert next(iter(card["rejected_sources"].values())).startswith("no_face")
    assert (made / "contact_sheet.png").stat().st_size > 1000
    (held,) = json.loads((made / "run.json").read_text())["runs"][0]["sandbox"].values()
    assert {"no_new_privs", "limits"} <= {*held}


def test_no_generator_is_told_by_frame_count_times_or_metadata(made: Path) -> None:
    facts = set()
    for path in sorted((made / "DFDM_crf10").rglob("id0_id1_0000_*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = tuple(frame.pts for frame in container.decode(stream))
            facts.add(
                (
                    times,
                    stream.time_base,
                    stream.codec_context.profile,
                    str(sorted(container.metadata.items())),
                )
            )
    assert len(facts) == 1


def test_sizes_fall_with_quality_and_the_encoder_had_the_same_settings_for_all(made: Path) -> None:
    settings: dict[int, set[bytes]] = {0: set(), 10: set(), 23: set()}
    for path in (made / "DFDM_crf0").rglob("*.mp4"):
        names = [str(path).replace("DFDM_crf0", f"DFDM_crf{crf}") for crf in settings]
        contents = [Path(name).read_bytes() for name in names]
        lossless, high, low = map(len, contents)
        assert lossless > high > low
        for crf, content in zip(settings, contents, strict=True):
            settings[crf] |= set(re.findall(rb"x264 - core [\x20-\x7e]+", content))  # x264 signs its streams
    assert [len(found) for found in settings.values()] == [1, 1, 1]


def test_lossless_output_is_profile_444_predictive_in_420_pixels(made: Path) -> None:
    for path in (made / "DFDM_crf0").rglob("*.mp4"):
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            assert (context.profile, context.pix_fmt) == ("High 4:4:4 Predictive", "yuv420p")


def test_running_again_makes_only_what_is_missing(made: Path, people: Path) -> None:
    before = videos(made)
    lost = ["DFDM_crf10/dfl-h128/id0_id1_0001_5dfl-h128.mp4", "real/crf0/id1_0000.mp4"]
    for name in lost:
        (made / name).unlink()
    run(config(people, made))
    after = videos(made)
    assert set(after) == set(before)
    assert {name for name in before if after[name] != before[name]} == set(lost)


def test_a_training_that_died_goes_on_from_its_checkpoint(made: Path, people: Path) -> None:
    folder = made / "work" / "models" / "id0_id1" / "faceswap"
    state = (folder / "state.pt").read_bytes()
    before = {path for path in made.rglob("*") if path.is_file()}
    (folder / "result.json").unlink()
    encoded = ("DFDM_crf10/dfl-h128/id0_id1_0001_5dfl-h128.mp4", "real/crf0/id1_0000.mp4")
    for name in ("work/faces/id0_0000.npz", "run.json", "dataset.json", folder / "progress.txt", *encoded):
        (made / f"{name}.0123abcd.part").touch()  # of writers that were killed
    run(config(people, made))
    assert {path for path in made.rglob("*") if path.is_file()} == before
    assert len(state) == (folder / "state.pt").stat().st_size


def test_other_settings_on_the_same_folder_are_refused(made: Path, people: Path) -> None:
    changed = SwapTrainConfig(iterations=4, width=0.03, batch_size=2, face_px=64)
    with pytest.raises(UserError, match="contains a run with other settings"):
        run(config(people, made, changed))


def test_other_scenes_are_made_with_the_networks_of_an_earlier_run(
    made: Path, people: Path, tmp_path: Path
) -> None:
    other = config(people, tmp_path / "more")
    job = replace(other, networks=str(made), scene_frames=4, scenes_per_identity=1)
    run(job)
    assert len(videos(tmp_path / "more")) == 2 * 3 * 2 + 2 * 3
    assert not (tmp_path / "more" / "work" / "models").exists()
    with pytest.raises(UserError, match=r"trained with other settings \(smoothing: 1\.0 -> 0\.0\)"):
        run(replace(job, smoothing=0.0))
    with pytest.raises(UserError, match=r"no trained network in .*/iae"):
        run(replace(job, generators=(Generator.IAE,)))
    with pytest.raises(UserError, match="not a finished --out of `dfdm-ray generate`"):
        run(replace(job, networks=str(people)))


def test_an_identity_without_a_usable_video_is_told_with_the_reason(people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "people")
    (tmp_path / "people" / "driver" / "carphone_pristine.mp4").write_text("no video")
    with pytest.raises(UserError, match="identity driver has no usable video: not_a_video"):
        run(config(tmp_path / "people", tmp_path / "out"))


def test_a_training_that_diverges_stops_the_run_with_one_line(people: Path, tmp_path: Path) -> None:
    wild = replace(TRAIN, iterations=60, learning_rate=1e30)
    with pytest.raises(UserError, match=r"^the training of [a-z0-9-]+ on id0 and id1 has diverged") as error:
        run(replace(config(people, tmp_path / "out", wild), generators=(Generator.FACESWAP,)))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("network.pt"))


def test_when_one_task_fails_the_others_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UserError("no face")

    def wait() -> None:
        while True:
            with suppress(KeyboardInterrupt):  # an interrupt can be lost, as while a worker starts
                time.sleep(0.1)

    monkeypatch.setattr(job, "_STOP_S", 5.0)
    running = [ray.remote(task).remote() for task in (fail, wait)]
    with pytest.raises(UserError, match=r"^no face$"):
        list(unfinished(running))
    ended, left = ray.wait(running, num_returns=2, timeout=120)
    assert left == []
    for task in ended:
        with suppress(ray.exceptions.RayError):
            ray.get(task)
