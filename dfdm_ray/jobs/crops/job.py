"""Draw the crops that `score` would give to the model as one picture. Runs in this process, without Ray."""

from rich.console import Console
from rich.progress import track

from dfdm_ray.clips.cut import ClipFacts, load_detector, prepare_clips
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.errors import UserError, VideoRejectedError
from dfdm_ray.io import storage
from dfdm_ray.io.images import Image, contact_sheet, png
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.crops.config import CropsConfig
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
    detector, _ = load_detector(config.faces)
    spec = clip_spec(config.plan, config.faces, config.crop, num_frames=config.plan.frames or _FRAMES)
    rows: list[tuple[str, Image | str]] = []
    for video in track(videos[: config.limit], description="crops", console=console, transient=True):
        facts = ClipFacts()
        try:
            clips = prepare_clips(video["uri"], detector, spec, facts)
        except VideoRejectedError as rejected:
            rows.append((video["video_id"], str(rejected)))
            say(console, f"{video['video_id']}: {rejected}")
        else:
            rows.append((video["video_id"], clips.crops.reshape(-1, *clips.crops.shape[2:])))
            say(console, f"{video['video_id']}: {_cost(facts, num_used=len(rows[-1][1]))}")
    storage.write_atomic(config.contact_sheet, png(contact_sheet(rows)))
    left_out = f"; {len(videos) - len(rows)} more left out by --limit" if len(videos) > len(rows) else ""
    say(console, f"{config.contact_sheet}: {len(rows)} videos{left_out}")
    return sum(not isinstance(crops, str) for _, crops in rows)


def _cost(facts: ClipFacts, *, num_used: int) -> str:
    runs = facts.plan or ()
    places = ", ".join(str(run.key + run.offsets[0]) for run in runs)
    return f"{num_used} frames, planned from frame {places}; {facts.num_frames_decoded} decoded"
