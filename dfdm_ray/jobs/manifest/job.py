"""List videos, split them and write the manifest."""

from dataclasses import replace

from rich.console import Console

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.manifest.split_lists import split_by_lists
from dfdm_ray.jobs.manifest.split_report import show_splits, split_report
from dfdm_ray.jobs.manifest.splits import assign_splits, split_by_default
from dfdm_ray.manifest.build import build_manifest, with_real, write_manifest
from dfdm_ray.manifest.summary import matched_real, show_manifest


def write(config: ManifestConfig, console: Console) -> None:
    """Write the manifest of ``config.videos`` and print a summary.

    Videos without identities cannot be split and stay without one.

    Raises:
        UserError: If there are no videos, a list of a split is wrong, or ``config.out`` exists.
    """
    if storage.exists(config.out) and not config.overwrite:
        raise UserError(f"{config.out} exists; give --overwrite to replace it, or another --out")
    build = build_manifest(config.videos, original=config.original)
    for source in config.real:
        build = with_real(build, source)
    table = build.table
    num_identities = len(table["target_identity"].drop_null().unique())
    chosen = "" if num_identities else "no target identities in the names: no split"
    if config.split == "lists":
        table, unmatched = split_by_lists(
            table, train_list=str(config.train_list), test_list=str(config.test_list), seed=config.seed
        )
        build = replace(build, problems=(*build.problems, *unmatched))
    elif config.split == "auto" and table["split"].null_count < table.num_rows:
        chosen = "the splits are those of the table"
    elif config.split == "none" or not num_identities:
        pass
    elif config.split == "auto":
        table, chosen = split_by_default(table, seed=config.seed)
    else:
        table = assign_splits(table, method=config.split, seed=config.seed)
    problems = write_manifest(config.out, build, table)
    show_manifest(build, console)
    if line := matched_real(table):
        say(console, line)
    if build.original_note:
        say(console, build.original_note, "yellow")
    if table["split"].null_count < table.num_rows:
        show_splits(split_report(table), console)
    if chosen:
        say(console, chosen)
    say(console, f"manifest: {config.out}" + (f"; problems: {problems}" if problems else ""))
