"""Draw the crops that `score` would give to the model as one picture. Runs without Ray."""

import numpy as np
from rich.console import Console
from rich.progress import track

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.clips.isolation import ChildLostError, Isolated
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.engine.shares import file_limits
from dfdm_ray.errors import UserError, VideoRejectedError
from dfdm_ray.io import storage
from dfdm_ray.io.images import Image, contact_sheet, png
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.crops.config import CropsConfig
from dfdm_ray.jobs.crops.work import PlanAndCut, plan_and_row
from dfdm_ray.manifest.build import build_manifest

_FRAMES = 10
"""Frames in a clip of the published DMA-STA."""


def draw_crops(config: CropsConfig, console: Console) -> int:
    """Write the contact sheet and return how many videos have crops.

    Raises:
        UserError: If the videos cannot be listed or the picture cannot be written.
    """
    if not config.contact_sheet.lower().endswith(".png"):
        raise UserError(f"--contact-sheet must end in .png, got {config.contact_sheet}")
    build = build_manifest(config.videos)
    if build.left_out:
        say(console, build.left_out)
    videos = build.table.to_pylist()
    _, weights = load_detector(config.faces)
    spec = clip_spec(config.plan, config.faces, config.crop, num_frames=config.plan.frames or _FRAMES)
    work = PlanAndCut(faces=config.faces, spec=spec, weights=weights, max_pixels=config.limits.max_pixels)
    child = Isolated(work, file_limits(config.limits, {}, workers=1)["allowance"])
    rows: list[tuple[str, Image | str]] = []
    for video in track(videos[: config.limit], description="crops", console=console, transient=True):
        try:
            plan, row = plan_and_row(child.pieces(video["uri"]), spec.shape)
        except VideoRejectedError as rejected:
            if isinstance(rejected, ChildLostError):
                child.close()  # a child that lives on after a wrong answer would give another
            rows.append((video["video_id"], str(rejected)))
            say(console, f"{video['video_id']}: {rejected}")
        else:
            crops = np.frombuffer(row["crops"], np.uint8).reshape(-1, *spec.shape[2:])
            rows.append((video["video_id"], crops))
            places, decoded = ", ".join(map(str, plan.tolist())), row["num_frames_decoded"]
            cost = f"{len(crops)} frames, planned from frame {places}; {decoded} decoded"
            say(console, f"{video['video_id']}: {cost}")
    child.close()
    storage.write_atomic(config.contact_sheet, png(contact_sheet(rows)))
    left_out = f"; {len(videos) - len(rows)} more left out by --limit" if len(videos) > len(rows) else ""
    say(console, f"{config.contact_sheet}: {len(rows)} videos{left_out}")
    return sum(not isinstance(crops, str) for _, crops in rows)
