"""Exchange of crops with the authors' code: a crops dataset to a tree of PNG frames, and back."""

from functools import partial

import pyarrow as pa
from rich.console import Console
from rich.progress import track

from dfdm_ray.engine.crops_run import CropsSource, make_dataset
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.png_tree.config import PngTreeExport, PngTreeImport
from dfdm_ray.jobs.png_tree.read import first_size, list_tree
from dfdm_ray.jobs.png_tree.read_png_folders import DETECTOR, ReadPngFolders
from dfdm_ray.jobs.png_tree.write import choose_videos, write_tree


def export_png_tree(config: PngTreeExport, console: Console) -> None:
    """Write the tree; copies files in this process, without Ray.

    Raises:
        UserError: If there is no dataset, its qualities are not chosen or the tree is there already.
    """
    videos, num_unknown = choose_videos(config)
    num_folders = write_tree(
        config,
        videos,
        track=lambda rows: track(rows, description="videos", console=console, transient=True),
    )
    left_out = f"; {num_unknown} videos of unknown generator left out" if num_unknown else ""
    say(
        console,
        f"{config.tree}: {videos.num_rows} videos in {num_folders} folders, listed in videos.csv{left_out}",
    )


def import_png_tree(config: PngTreeImport, console: Console) -> pa.Table:
    """Make or continue the crops dataset ``config.out`` from the tree and return its index.

    Raises:
        UserError: If there are no frames, the output folder holds something else, or too many videos
            are rejected.
    """
    manifest, not_listed = list_tree(config.tree, crf=config.crf)
    size = config.size or first_size(manifest)
    settings = {
        "strategy": "png_tree",
        "num_frames": config.frames,
        "num_clips": 1,
        "crop_size": size,
        "margin": config.margin,
        "detector": DETECTOR,
    }
    source = CropsSource(
        manifest=manifest,
        not_listed=not_listed,
        settings=settings,
        shape=(1, config.frames, size, size, 3),
        clips=lambda limits: partial(ReadPngFolders, num_frames=config.frames, size=size, **limits),
    )
    return make_dataset(config, source, console)
