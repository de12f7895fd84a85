"""All main jobs on public face videos: make data, train on it, attribute videos that training did not see.

::

    public media, a photograph -> generate: two pairs of people, five generators each
        -> preprocess, train: scenes of the known pair
        -> score: its other scenes, the unseen pair, the original videos, swaps by something else
        -> report, evaluate

Each step keeps its results, so a second run only shows them.
"""

import json
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

import dfdm_ray
from dfdm_ray import assets
from dfdm_ray.config import CropConfig
from dfdm_ray.engine.session import ray_session
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.demo.config import DemoConfig
from dfdm_ray.jobs.demo.ending import measured, show_ending
from dfdm_ray.jobs.demo.pasted import paste_into
from dfdm_ray.jobs.demo.people import IDS, KNOWN, UNSEEN, write_people
from dfdm_ray.jobs.demo.splits import ORIGINALS, PASTED, write_manifests
from dfdm_ray.jobs.demo.steps import Steps
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.job import evaluate
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.job import generate
from dfdm_ray.jobs.generate.plan import network_folder
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.preprocess.job import preprocess
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.report.job import report
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import main as score
from dfdm_ray.jobs.train.config import ClipAugmentConfig, NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import main as train
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER

_PLAN = {
    "people": {"media": 10.0},
    "generate": {"faces": 20.0, "training": 290.0, "scenes": 80.0},
    "crops": {"videos": 40.0},
    "train": {"epochs": 290.0},
    "score": {"videos": 35.0},
    "report": {"pages": 15.0, "thumbnails": 8.0},
    "evaluate": {"files": 5.0},
}
_SCENE_FRAMES = 8
_SCENES = 15
"""Maximum of scenes from each person's video."""
_MAX_FRAMES = 120

_SWAP_TRAIN = SwapTrainConfig(
    iterations=450,
    width=0.125,
    widths=("dfaker=0.0625", "dfl-h128=0.0625"),
    batch_size=2,
    learning_rate=2e-3,
    schedule="cosine",
    clip_norm=0.3,
    augment_colour=False,
    flip=False,
    geometry=0.3,
    even_inputs=True,
    faithful_crop=False,
    face_px=128,
)
"""Under a minute of one core for a network. docs/generate.md says what each setting brings in a short run."""
_LEAST_PSNR_DB = 15.0
"""A network below this has learned no face."""

_CROP = CropConfig(size=176, align="generator")
_FRAMES, _CLIPS = 3, 2
_RECIPE = Recipe(
    epochs=22,
    batch_size=10,
    learning_rate=3e-3,
    augment=ClipAugmentConfig(h264=0.05, colour=0.2, blur=0, resize=0),
)
_NETWORK = NetworkConfig(backbone="compact")
"""Network for two cores."""
_PAGES = 6
_MADE_WITH = repr(
    (dfdm_ray.__version__, _SCENE_FRAMES, _SCENES, _SWAP_TRAIN, _CROP, _FRAMES, _CLIPS, _RECIPE, _NETWORK)
)
"""Settings of an earlier run whose results are shown again."""


def run_demo(config: DemoConfig, console: Console) -> None:
    """Run every job below ``config.out``, and show what the model found.

    Raises:
        UserError: If ``config.out`` can be no folder, or a step fails; the message names the step, and the
            same command continues.
    """
    root = Path(config.out)
    done = root / "demo.json"
    facts = json.loads(done.read_text()) if done.exists() else {}
    if facts.get("made_with") != _MADE_WITH:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {root}: {error.strerror or error}") from error
        facts = _run(root, console)
        storage.write_atomic(str(done), json.dumps(facts, indent=2).encode())
    show_ending(facts, console)


def _run(root: Path, console: Console) -> dict[str, Any]:
    """Run all steps and return the facts for the end."""
    steps, started_s = Steps(_PLAN, console, root / "demo.log"), time.monotonic()
    crops, training, out, evaluation = (
        str(root / name) for name in ("crops", "training", "out", "evaluation")
    )
    checkpoint = storage.join(training, "dma_sta.pt")
    with steps.shown():
        with steps.step("people", "videos of public packages, and a photograph"):
            people = _media(root)
        with ExitStack() as session:
            with steps.step("generate", "ten networks swap the faces of two pairs of people") as jobs:
                session.enter_context(ray_session(None, worker_output=False))
                generate(_generate_config(root, people), jobs)
                _require_faces(root)
                _paste(root)
                learned, scored = write_manifests(root)
            with steps.step("crops", "faces to learn from, of the driver and the woman") as jobs:
                preprocess(_crops_config(learned, crops), jobs)
            with steps.step("train", "a compact network learns five generators and real videos") as jobs:
                train(TrainConfig(crops=crops, out=training, recipe=_RECIPE, network=_NETWORK), jobs)
            with steps.step("score", "videos that training did not see") as jobs:
                score(ScoreConfig(manifest=scored, checkpoint=checkpoint, out=out), jobs)
            with steps.step("report", "pages for a person") as jobs:
                report(ReportConfig(out=out, top=_PAGES, occlusion=5), jobs)
        with steps.step("evaluate", "the answers against the truth") as jobs:
            evaluate(EvaluateConfig(predictions=(out,), out=evaluation, overwrite=True), jobs)
    return {
        "made_with": _MADE_WITH,
        **measured(storage.read_parts(storage.join(out, PREDICTIONS_FOLDER), PREDICTIONS)),
        "seconds": steps.seconds,
        "total_s": time.monotonic() - started_s,
        "paths": {
            "contact sheet": str(root / "videos" / "contact_sheet.png"),
            "report page": str(min((root / "out" / "report" / "videos").glob("*.html"))),
            "triage page": str(root / "out" / "report" / "index.html"),
            "measures": str(root / "evaluation" / "report.html"),
        },
        "next": _next(checkpoint, root / "mine"),
    }


def _next(checkpoint: str, out: Path) -> str:
    model, to = shlex.quote(checkpoint), shlex.quote(str(out))
    run = "dfdm-ray" if not (found := Path(".venv/bin/dfdm-ray")).exists() else str(found)
    return f"{run} score --videos FOLDER --checkpoint {model} --out {to} && {run} report {to}"


def _media(root: Path) -> str:
    """Fetch all files; return the list of people."""
    names = [asset.name for asset in assets.REGISTRY if asset.kind == "media"]
    found = assets.get_all([*names, assets.DETECTOR_WEIGHTS["mobilenet0.25"]])
    for name, path in zip(names, found, strict=False):
        copy = root / "others" / ORIGINALS / name
        if not copy.exists():
            storage.write_atomic(str(copy), path.read_bytes())
    return write_people(root)


def _generate_config(root: Path, people: str) -> GenerateConfig:
    return GenerateConfig(
        identities=people,
        out=str(root / "videos"),
        pairs=(":".join(KNOWN), ":".join(UNSEEN)),
        scene_frames=_SCENE_FRAMES,
        scenes_per_identity=_SCENES,
        max_frames=_MAX_FRAMES,
        train=_SWAP_TRAIN,
    )


def _crops_config(manifest: str, out: str) -> PreprocessConfig:
    return PreprocessConfig(manifest=manifest, out=out, frames=_FRAMES, clips=_CLIPS, crop=_CROP)


def _require_faces(root: Path) -> None:
    """Raise a ``UserError`` that names the networks which have learned no face."""
    card = json.loads((root / "videos" / "dataset.json").read_text())
    weak = {name: min(psnr.values()) for name, psnr in card["psnr_db"].items()}
    weak = {name: psnr for name, psnr in weak.items() if not psnr >= _LEAST_PSNR_DB}
    if weak:
        listed = ", ".join(f"{name} ({psnr:.1f} dB)" for name, psnr in weak.items())
        folders = ", ".join(str(network_folder(root / "videos", *name.split(" "))) for name in weak)
        videos = root / "videos" / "DFDM_crf*"
        raise UserError(
            f"networks that draw no face: {listed}; delete {folders} to train them again, and their {videos}"
        )


def _paste(root: Path) -> None:
    """Make the swaps by something that is no class: each person gets the face of another."""
    card = json.loads((root / "videos" / "dataset.json").read_text())
    videos = {one["id"]: one["videos"][0] for one in card["identities"]}
    order = [IDS[name] for name in (*KNOWN, *UNSEEN)]
    faces = root / "videos" / "work" / "faces"
    for target, source in zip(order, [*order[2:], *order[:2]], strict=True):
        paste_into(
            videos[target],
            faces / f"{target}_0000.npz",
            faces / f"{source}_0000.npz",
            root / "others" / PASTED,
            scene_frames=_SCENE_FRAMES,
        )
