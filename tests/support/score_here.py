"""A score run in this process, without Ray."""

from pathlib import Path

from rich.console import Console

from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.run import open_run
from dfdm_ray.engine.shares import file_limits
from dfdm_ray.io import storage
from dfdm_ray.jobs.score import job
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER


def score_here(videos: Path, checkpoint: Path, out: Path) -> Path:
    """Score the files in ``videos`` and return ``out``, a folder as `score` leaves it."""
    config, console = (
        ScoreConfig(videos=str(videos), checkpoint=str(checkpoint), out=str(out)),
        Console(quiet=True),
    )
    content = storage.read_bytes(str(checkpoint), what="checkpoint")
    model = load_checkpoint(content, name=str(checkpoint))
    source = job.videos(config, model, console)
    shares = job.Shares(
        decode_workers=1,
        decode_cpus=1.0,
        model_workers=1,
        model_cpus=1.0,
        model_gpus=0.0,
        device="cpu",
        batch_size=4,
    )
    settings = {
        **source.settings,
        "classes": list(model.classes),
        "checkpoint_sha256": job.hashlib.sha256(content).hexdigest(),
        "precision": config.precision,
    }
    folder = RunFolder(str(out), job="score", settings=settings, rows=PREDICTIONS_FOLDER, schema=PREDICTIONS)
    assert file_limits(config.limits, {}, workers=1)
    with open_run(config, folder, source.rows, console, verb="scored") as run:
        clips = job._clips_stage(config, source, shares, [])
        answers = job._model_stage(config, source, shares, content)
        folder.add(answers.fn(**answers.kwargs)(clips.fn(**clips.kwargs)(run.todo)))
    return out
