"""Compare predictions with the truth. Runs here, without Ray.

::

    --predictions (and --manifest) -> cases: scored videos of a known generator -> metrics, intervals
        -> OUT/metrics.json, report.md, report.html
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from rich.console import Console

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say, visible
from dfdm_ray.jobs.evaluate import markdown, page, terminal
from dfdm_ray.jobs.evaluate.cases import Selection, check_predictions, fill_from_manifest, select
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.summary import summarise
from dfdm_ray.labels import GENERATORS
from dfdm_ray.schemas import PREDICTIONS_FOLDER, check_manifest

_FILES = ("metrics.json", "report.md", "report.html")


@dataclass(frozen=True, kw_only=True)
class _Input:
    """One of --predictions."""

    name: str
    table: pa.Table
    classes: tuple[str, ...]
    remarks: Sequence[str]


def evaluate(config: EvaluateConfig, console: Console) -> dict[str, Any]:
    """Measure the predictions, write the reports and return what stands in ``metrics.json``.

    ``accuracy`` and its interval at the top are those of the first of ``config.predictions``; each
    input's metrics are in ``runs``, in their order.

    Raises:
        UserError: If an input is wrong, nothing is left to evaluate, or ``config.out`` holds a report.
    """
    _check_out(config)
    manifest = None
    if config.manifest is not None:
        table = storage.read_parquet(config.manifest, what="manifest")
        manifest = check_manifest(table, origin=config.manifest)
    inputs = [
        _read(uri, name, manifest) for uri, name in zip(config.predictions, _names(config), strict=True)
    ]
    selections = [
        select(one.table, classes=one.classes, split=config.split, crfs=config.crf, origin=one.name)
        for one in inputs
    ]
    report = _report(config, inputs, selections)
    _write(config.out, report)
    terminal.show(report, console)
    for name in _FILES:
        say(console, visible(storage.join(config.out, name)))
    return report


def _report(
    config: EvaluateConfig, inputs: Sequence[_Input], selections: Sequence[Selection]
) -> dict[str, Any]:
    runs = [
        summarise(
            selection,
            name=one.name,
            classes=one.classes,
            num_samples=config.bootstrap,
            seed=config.seed,
            num_mistakes=config.mistakes,
        )
        for one, selection in zip(inputs, selections, strict=True)
    ]
    remarks = [f"{one.name}: {remark}" for one in inputs for remark in one.remarks]
    videos = [set(selection.cases.video_ids) for selection in selections]
    if any(ids != videos[0] for ids in videos):
        common = len(set.intersection(*videos))
        remarks.append(f"The inputs do not cover the same scored videos; {common} are in all of them.")
    first = ("accuracy", "accuracy_interval", "num_videos", "num_groups")
    return {
        **{key: runs[0][key] for key in first},
        "split": config.split,
        "crf": list(config.crf),
        "predictions": list(config.predictions),
        "manifest": config.manifest,
        "bootstrap": config.bootstrap,
        "seed": config.seed,
        "remarks": remarks,
        "runs": runs,
    }


def _check_out(config: EvaluateConfig) -> None:
    there = [name for name in storage.list_names(config.out) if name in _FILES]
    if there and not config.overwrite:
        raise UserError(
            f"--out {config.out} holds {', '.join(sorted(there))}; give --overwrite or a new --out"
        )


def _write(out: str, report: dict[str, Any]) -> None:
    contents = (
        json.dumps(report, indent=2, allow_nan=False),
        markdown.render(report),
        page.render(report),
    )
    for name, content in zip(_FILES, contents, strict=True):
        uri = storage.join(out, name)
        try:
            storage.write_atomic(uri, content.encode())
        except OSError as error:
            raise UserError(f"cannot write {uri}: {error}") from error


def _names(config: EvaluateConfig) -> tuple[str, ...]:
    """Return what each input is called: last names, or whole URIs where last names repeat."""
    doubled = [uri for uri, count in Counter(config.predictions).items() if count > 1]
    if doubled:
        raise UserError(f"--predictions names {doubled[0]} more than once")
    last = [storage.split(uri.rstrip("/"))[1] or uri for uri in config.predictions]
    short = last if len(set(last)) == len(last) else list(config.predictions)
    return tuple(visible(name) for name in config.names or short)


def _read(uri: str, name: str, manifest: pa.Table | None) -> _Input:
    table, record = _read_run(uri)
    table = check_predictions(table, origin=uri)
    remarks = []
    planned = record.get("planned")
    if isinstance(planned, int) and planned != table.num_rows:
        remarks.append(f"the run is not finished: {table.num_rows} of {planned} videos have a row")
    if manifest is not None:
        table, differing = fill_from_manifest(table, manifest)
        remarks += differing
    return _Input(name=name, table=table, classes=_classes(record, table, uri), remarks=remarks)


def _read_run(uri: str) -> tuple[pa.Table, dict[str, Any]]:
    """Return the rows at ``uri`` and, if it is a run's folder, what its ``run.json`` says."""
    if storage.path_of(uri).endswith(".parquet"):
        return storage.read_parquet(uri, what="predictions"), {}
    names = storage.list_names(uri)
    folder, parts = uri, sorted(name for name in names if name.endswith(".parquet"))
    if PREDICTIONS_FOLDER in names:
        folder = storage.join(uri, PREDICTIONS_FOLDER)
        parts = storage.part_names(folder)
    if not parts or (folder == uri and "manifest.parquet" in parts):
        raise UserError(
            f"{uri} holds no predictions; give the --out of `dfdm-ray score` or a .parquet file of them"
        )
    tables = [storage.read_parquet(storage.join(folder, part), what="predictions") for part in parts]
    try:
        return pa.concat_tables(tables), _record(uri) if "run.json" in names else {}
    except pa.ArrowInvalid as error:
        raise UserError(f"the files in {folder} have different columns: {error}") from error


def _record(uri: str) -> dict[str, Any]:
    path = storage.join(uri, "run.json")
    try:
        record = json.loads(storage.read_bytes(path, what="run record"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("settings", {}), dict):
        raise UserError(f"{path} is damaged: it is no record of a run")
    return record


def _classes(record: dict[str, Any], table: pa.Table, origin: str) -> tuple[str, ...]:
    """Return the model's classes in order: as the run says, else all generators if K fits."""
    told = record.get("settings", {}).get("classes")
    if told is not None:
        if not isinstance(told, list) or not told or any(name not in GENERATORS for name in told):
            raise UserError(
                f"{origin}: run.json names the classes {told}; they must be of {', '.join(GENERATORS)}"
            )
        return tuple(told)
    counts = {len(row) for row in table["probabilities"].to_pylist() if row}
    if counts - {len(GENERATORS)}:
        raise UserError(
            f"{origin} has {sorted(counts)} probabilities a video, and nothing says of which classes; "
            f"{len(GENERATORS)} are expected; or give a run folder whose run.json names the classes"
        )
    return GENERATORS
