"""Compare predictions with the truth. Runs on this machine, without Ray.

::

    --predictions (and --manifest) -> cases: scored videos of a known generator -> metrics, intervals
        -> OUT/metrics.json, report.md, report.html
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from rich.console import Console

from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say, visible
from dfdm_ray.jobs.evaluate import plots, report
from dfdm_ray.jobs.evaluate.cases import check_predictions, fill_from_manifest, select
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.summary import summarise
from dfdm_ray.labels import GENERATORS, merged_classes
from dfdm_ray.manifest.read import load_manifest
from dfdm_ray.schemas import PREDICTIONS_FOLDER, SCORED, with_values

_FILES = ("metrics.json", "report.md", "report.html")


def evaluate(config: EvaluateConfig, console: Console) -> dict[str, Any]:
    """Measure the predictions, write the reports and return the content of ``metrics.json``.

    ``accuracy`` and its interval at the top are those of the first of ``config.predictions``; ``runs`` has
    the metrics of each input, in order.

    Raises:
        UserError: If an input is wrong, nothing is left to evaluate, or ``config.out`` contains a report.
    """
    found = sorted(name for name in storage.list_names(config.out) if name in _FILES)
    if found and not config.overwrite:
        raise UserError(f"--out {config.out} contains {', '.join(found)}; give --overwrite or a new --out")
    metrics = _measure(config)
    drawn = [plots.draw(run, name=f"run{index}") for index, run in enumerate(metrics["runs"])]
    content = json.dumps(metrics, indent=2, allow_nan=False)
    contents = content, report.markdown(metrics), report.page(metrics, drawn)
    with writing_to(config.out):
        for name, content in zip(_FILES, contents, strict=True):
            storage.write_atomic(storage.join(config.out, name), content.encode())
    report.show(metrics, console)
    for name in _FILES:
        say(console, storage.join(config.out, name))
    return metrics


def _names(config: EvaluateConfig) -> tuple[str, ...]:
    """Return the name of each input: the last part of its path, or all of it where last parts repeat."""
    repeated = [uri for uri, count in Counter(config.predictions).items() if count > 1]
    if repeated:
        raise UserError(f"--predictions lists {repeated[0]} more than once")
    last = [storage.split(uri.rstrip("/"))[1] or uri for uri in config.predictions]
    short = last if len(set(last)) == len(last) else config.predictions
    return tuple(visible(name) for name in config.names or short)


def _measure(config: EvaluateConfig) -> dict[str, Any]:
    """Return the content of ``metrics.json``."""
    manifest = None
    if config.manifest is not None:
        manifest = load_manifest(config.manifest)
    options = {"num_samples": config.bootstrap, "seed": config.seed, "num_mistakes": config.mistakes}
    runs, remarks, videos = [], [], []
    for uri, name in zip(config.predictions, _names(config), strict=True):
        table, classes, on_input = _read(uri, manifest, merged_classes(config.merge))
        fates = select(table, classes=classes, split=config.split, crfs=config.crf, origin=name)
        runs.append(summarise(fates, name=name, classes=classes, **options))
        remarks += [f"{name}: {remark}" for remark in on_input]
        videos.append({row["video_id"] for row in fates[SCORED]})
    if any(ids != videos[0] for ids in videos):
        common = len(set.intersection(*videos))
        remarks.append(f"The inputs do not cover the same scored videos; {common} are in all of them.")
    return {
        **{key: runs[0][key] for key in ("accuracy", "accuracy_interval", "num_videos", "num_groups")},
        **{
            key: getattr(config, key)
            for key in ("split", "crf", "predictions", "manifest", "bootstrap", "seed")
        },
        "remarks": remarks,
        "runs": runs,
    }


def _read(
    uri: str, manifest: pa.Table | None, merged: Mapping[str, str]
) -> tuple[pa.Table, tuple[str, ...], list[str]]:
    """Return the rows, the classes and remarks on one of --predictions.

    Args:
        merged: Class of each generator that is part of a merged one.
    """
    table, record = _read_run(uri)
    table = check_predictions(table, origin=uri)
    remarks = []
    planned = record.get("planned")
    if isinstance(planned, int) and planned != table.num_rows:
        remarks.append(f"the run is not finished: {table.num_rows} of {planned} videos have a row")
    if manifest is not None:
        table, differing = fill_from_manifest(table, manifest)
        remarks += differing
    truth = [merged.get(name, name) for name in table["true_generator"].to_pylist()]
    table = with_values(table, "true_generator", truth)
    return table, _classes(record, table, uri), remarks


def _read_run(uri: str) -> tuple[pa.Table, dict[str, Any]]:
    """Return the rows at ``uri`` and, for the folder of a run, the content of its ``run.json``."""
    if storage.path_of(uri).endswith(".parquet"):
        return storage.read_parquet(uri, what="predictions"), {}
    names = storage.list_names(uri)
    folder, parts = uri, sorted(name for name in names if name.endswith(".parquet"))
    if PREDICTIONS_FOLDER in names:
        folder = storage.join(uri, PREDICTIONS_FOLDER)
        parts = storage.part_names(folder)
    if not parts or (folder == uri and "manifest.parquet" in parts):
        raise UserError(
            f"{uri} contains no predictions; give an output folder of `dfdm-ray score` or a .parquet file"
        )
    tables = [storage.read_parquet(storage.join(folder, part), what="predictions") for part in parts]
    try:
        whole = pa.concat_tables(tables, promote_options="default")  # earlier versions had fewer columns
        return whole, _record(uri) if "run.json" in names else {}
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"the files in {folder} have different columns: {error}") from error


def _record(uri: str) -> dict[str, Any]:
    path = storage.join(uri, "run.json")
    try:
        record: dict[str, Any] = json.loads(storage.read_bytes(path, what="run record"))
        record.setdefault("settings", {}).get("classes")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged or not the record of a run: {error}") from error
    return record


def _classes(record: dict[str, Any], table: pa.Table, origin: str) -> tuple[str, ...]:
    """Return the class names in the record, in class order; without a record, all generators if K fits."""
    listed = record.get("settings", {}).get("classes")
    if listed is not None:
        names = listed if isinstance(listed, list) else []
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise UserError(f"{origin}: run.json lists the classes {listed}; they must be different names")
        return tuple(listed)
    counts = {len(row) for row in table["probabilities"].to_pylist() if row}
    if counts - {len(GENERATORS)}:
        raise UserError(
            f"{origin} has {sorted(counts)} probabilities per video, not {len(GENERATORS)}, and does not "
            "name their classes; give a run folder whose run.json lists them"
        )
    return GENERATORS
