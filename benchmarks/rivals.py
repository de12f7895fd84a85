"""Two alternatives to `dfdm-ray score`, with the same functions on the same videos.

``pool``: a multiprocessing pool; each process prepares four videos and scores them in one forward pass.
``daft``: Daft; one class prepares the crops and one runs the model, each in its own processes.

python benchmarks/rivals.py pool|daft --videos folder --checkpoint model.pt --out rows.parquet
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report import parser
from same_work import BATCH, Preparer, Scorer

_WORKER: list[Any] = []


def _start_worker(checkpoint: str) -> None:
    _WORKER[:] = [Preparer(checkpoint), Scorer(checkpoint)]


def _work(uris: list[str]) -> list[dict[str, Any]]:
    preparer, scorer = _WORKER
    rows = scorer.rows(np.concatenate([preparer.crops(uri) for uri in uris]))
    return [{"uri": uri, **row} for uri, row in zip(uris, rows, strict=True)]


def run_pool(uris: list[str], checkpoint: str, first: Callable[[], None]) -> list[dict[str, Any]]:
    batches = [uris[start : start + BATCH] for start in range(0, len(uris), BATCH)]
    context = multiprocessing.get_context("spawn")  # torch and onnxruntime do not survive a fork
    with context.Pool(os.cpu_count(), _start_worker, (checkpoint,)) as pool:
        rows: list[dict[str, Any]] = []
        for some in pool.imap_unordered(_work, batches):
            first()
            rows += some
    return rows


def run_daft(uris: list[str], checkpoint: str, first: Callable[[], None]) -> list[dict[str, Any]]:
    import daft

    answer = daft.DataType.struct(
        {"generator": daft.DataType.string(), "probabilities": daft.DataType.list(daft.DataType.float64())}
    )
    workers = os.cpu_count()

    @daft.cls(max_concurrency=workers, use_process=True)
    class Crops:
        def __init__(self, checkpoint: str) -> None:
            self._preparer = Preparer(checkpoint)

        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=BATCH)
        def crops(self, uris: Any) -> Any:
            return [self._preparer.crops(uri).tobytes() for uri in uris.to_pylist()]

    @daft.cls(max_concurrency=workers, use_process=True)
    class Model:
        def __init__(self, checkpoint: str) -> None:
            self._scorer = Scorer(checkpoint)

        @daft.method.batch(return_dtype=answer, batch_size=BATCH)
        def answers(self, crops: Any) -> Any:
            videos = [np.frombuffer(one, np.uint8) for one in crops.to_pylist()]
            return self._scorer.rows(np.stack(videos).reshape(-1, *self._scorer.shape[1:]))

    table = daft.from_pydict({"uri": uris}).into_batches(BATCH)
    table = table.with_column("crops", Crops(checkpoint).crops(table["uri"]))
    table = table.with_column("answer", Model(checkpoint).answers(table["crops"])).exclude("crops")
    rows = []
    for row in table.iter_rows():
        first()
        rows.append({"uri": row["uri"], **row["answer"]})
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("way", choices=("pool", "daft"))
    for name in ("videos", "checkpoint", "out"):
        options.add_argument(f"--{name}", required=True)
    args = options.parse_args()
    started, first_s = time.monotonic(), []
    uris = sorted(str(path.absolute()) for path in Path(args.videos).iterdir())
    run = run_pool if args.way == "pool" else run_daft
    rows = run(uris, args.checkpoint, lambda: first_s or first_s.append(time.monotonic() - started))
    pq.write_table(pa.Table.from_pylist(rows), args.out)
    print(f"{first_s[0]:.2f}")


if __name__ == "__main__":
    main()
