"""Draw the crops that `score` would give to the model as one picture. Runs without Ray."""

import numpy as np
from rich.console import Console
from rich.progress import track

from dfdm_ray.clips.child import Row
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
    spec = clip_spec(
        config.plan,
        config.faces,
        config.crop,
        num_frames=config.plan.frames or _FRAMES,
        most_faces=config.faces.most,
    )
    work = PlanAndCut(faces=config.faces, spec=spec, weights=weights, max_pixels=config.limits.max_pixels)
    child = Isolated(work, file_limits(config.limits, {}, workers=1)["allowance"])
    rows: list[tuple[str, Image | str]] = []
    shown, num_cropped = videos[: config.limit], 0
    for video in track(shown, description="crops", console=console, transient=True):
        name = video["video_id"]
        try:
            plan, row = plan_and_row(child.pieces(video["uri"]), spec)
        except VideoRejectedError as rejected:
            if isinstance(rejected, ChildLostError):
                child.close()  # a child that lives on after a wrong answer would give another
            rows.append((name, str(rejected)))
            say(console, f"{name}: {rejected}")
            continue
        num_cropped += 1
        rows += _lines(name, row, spec.crop_size)
        several = f"{len(row['faces'])} faces; " if len(row["faces"]) > 1 else ""
        places, decoded = ", ".join(map(str, plan.tolist())), row["num_frames_decoded"]
        cost = f"{row['num_frames_scored']} frames, planned from frame {places}; {decoded} decoded"
        say(console, f"{name}: {several}{cost}")
    child.close()
    storage.write_atomic(config.contact_sheet, png(contact_sheet(rows)))
    left_out = f"; {len(videos) - len(shown)} more left out by --limit" if len(videos) > len(shown) else ""
    say(console, f"{config.contact_sheet}: {len(shown)} videos{left_out}")
    return num_cropped


def _lines(name: str, row: Row, size: int) -> list[tuple[str, Image | str]]:
    """Return name and crops of each face, ``(n, S, S, 3)``."""
    crops = np.frombuffer(row["crops"], np.uint8).reshape(-1, size, size, 3)
    ends = np.cumsum([face["num_frames_scored"] for face in row["faces"]])[:-1]
    faces = np.split(crops, ends)
    return [(f"{name}, face {at}" if at > 1 else name, of_face) for at, of_face in enumerate(faces, 1)]
