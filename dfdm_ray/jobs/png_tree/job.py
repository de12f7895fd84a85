"""Exchange of crops with the authors' code: a crops dataset to a tree of PNG frames, and back."""

import pyarrow as pa
from rich.console import Console

from dfdm_ray.engine.crops_run import CropsJob, make_dataset
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.png_tree.config import PngTreeConfig, PngTreeExport, PngTreeImport
from dfdm_ray.jobs.png_tree.read import ReadFolders, first_size, list_tree
from dfdm_ray.jobs.png_tree.write import choose_videos, write_tree

_DETECTOR = "none"
"""Detector's name for crops that others made."""


def main(config: PngTreeConfig, console: Console) -> None:
    """Run the command."""
    if isinstance(config.job, PngTreeExport):
        export_png_tree(config.job, console)
    else:
        import_png_tree(config.job, console)


def export_png_tree(config: PngTreeExport, console: Console) -> None:
    """Write the tree; copies files in this process, without Ray.

    Raises:
        UserError: If there is no dataset, its qualities are not chosen or the tree exists.
    """
    videos, num_unknown = choose_videos(config)
    num_folders = write_tree(config, videos, console)
    left_out = f"; {num_unknown} videos of unknown generator left out" if num_unknown else ""
    text = f"{config.tree}: {videos.num_rows} videos in {num_folders} folders, listed in videos.csv"
    say(console, f"{text}{left_out}")


def import_png_tree(config: PngTreeImport, console: Console) -> pa.Table:
    """Make or continue the crops dataset ``config.out`` from the tree and return its index.

    Raises:
        UserError: If there are no frames, the output folder contains something else, or too many videos
            are rejected.
    """
    manifest, not_listed = list_tree(config.tree, crf=config.crf)
    size = config.size or first_size(manifest)
    job = CropsJob(
        out=config.out,
        manifest=manifest,
        not_listed=not_listed,
        work=ReadFolders(num_frames=config.frames, size=size),
        detector=_DETECTOR,
        shape=(1, config.frames, size, size, 3),
        settings={
            "strategy": "png_tree",
            "num_frames": config.frames,
            "num_clips": 1,
            "crop_size": size,
            "margin": config.margin,
            "detector": _DETECTOR,
        },
    )
    return make_dataset(config, config.resources, job, console)
