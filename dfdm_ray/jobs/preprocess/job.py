"""Make the crops dataset that training reads: plan, decode, detect, track and crop each video once."""

from dataclasses import asdict

import pyarrow as pa
from rich.console import Console

from dfdm_ray.clips.child import CutVideos
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import PlanConfig
from dfdm_ray.engine.crops_run import CropsJob, make_dataset
from dfdm_ray.engine.run import checked_detector, read_manifest
from dfdm_ray.jobs.preprocess.config import PreprocessConfig


def preprocess(config: PreprocessConfig, console: Console) -> pa.Table:
    """Make or continue the crops dataset ``config.out`` and return its index.

    Raises:
        UserError: If an input is wrong, the output folder contains something else, or too many videos
            are rejected.
    """
    plan = PlanConfig(**vars(config.plan), frames=config.frames, clips=config.clips)
    spec = clip_spec(plan, config.faces, config.crop, num_frames=config.frames)
    manifest, not_listed = read_manifest(config, console)
    weights, detector = checked_detector(config.faces)
    job = CropsJob(
        out=config.out,
        manifest=manifest,
        not_listed=not_listed,
        work=CutVideos(faces=config.faces, spec=spec, weights=weights, max_pixels=config.limits.max_pixels),
        detector=config.faces.detector,
        shape=spec.shape,
        settings={**asdict(spec), **detector},
    )
    return make_dataset(config, config.resources, job, console)
