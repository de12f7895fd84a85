"""How fast DMA-STA scores clips, compared with the machine's arithmetic and with the authors' loop.

A batch is that of the model worker of ``dfdm-ray score``: from uint8 crops in memory to scores in memory. The
authors' loop runs the network frame by frame in float32, one clip at a time. The bound is the batch's
convolutions and matrix products at the rate of a large matrix product of the same type, measured in the same
minute. The crops are noise.

python benchmarks/score_steps.py [--device cuda] [--backbone resnet50] [--batch-sizes 8 32 128]
"""

import argparse
import copy
import statistics
from collections.abc import Callable

import numpy as np
import torch
from floor import checkpoint, frame_by_frame
from report import Table, parser, save, show
from timing import gflop_of, matmul_gflops, seconds

from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.models.inference import ClipScorer

HEADINGS = "way|clips|clips/s|spread|bound, clips/s|of the bound|times the authors' loop"


def measure(args: argparse.Namespace) -> list[dict[str, float | str]]:
    """Return the figures of each way and batch size."""
    loaded = load_checkpoint(checkpoint(args.backbone).read_bytes(), name=args.backbone)
    on_gpu = args.device == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    ways = {"eager": False} | ({"compiled": True} if on_gpu else {})
    rng = np.random.default_rng(0)
    side = loaded.preprocessing.crop_size
    shape = (max(args.batch_sizes), loaded.config.num_frames, side, side, 3)
    crops = rng.integers(0, 256, shape, dtype=np.uint8)
    works = {("authors' loop", 1): _loop(loaded, crops[:1], args.device)}
    for way, compiled in ways.items():
        for size in args.batch_sizes:
            scorer = ClipScorer(
                loaded, device=args.device, precision="bf16" if on_gpu else "fp32", compile=compiled
            )
            works[way, size] = lambda scorer=scorer, size=size: scorer.score(crops[:size])
    gflop = gflop_of(works["eager", args.batch_sizes[0]]) / args.batch_sizes[0]
    for work in works.values():
        work(), work()  # compile, and choose algorithms
    times: dict[tuple[str, int], list[float]] = {key: [] for key in works}
    rates = []
    for _ in range(args.repeats):  # interleaved, so that other load on the machine affects all alike
        rates.append(matmul_gflops(args.device, dtype))
        for key, work in works.items():
            times[key].append(seconds(lambda work=work: [work() for _ in range(args.steps)], args.device))
    bound = statistics.median(rates) / gflop
    return [
        {
            "way": way,
            "clips": size,
            "clips_per_s": size * args.steps / statistics.median(taken),
            "spread": (max(taken) - min(taken)) / statistics.median(taken),
            "bound_clips_per_s": bound,
        }
        for (way, size), taken in times.items()
    ]


def _loop(loaded: LoadedModel, crops: np.ndarray, device: str) -> Callable[[], torch.Tensor]:
    model = copy.deepcopy(loaded.model).to(device)
    return lambda: frame_by_frame(model, crops).cpu()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--backbone", default="resnet50")
    options.add_argument("--batch-sizes", type=int, nargs="+", default=[8])
    options.add_argument("--steps", type=int, default=1, help="batches in one timing; use 5 on a GPU")
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    rows = measure(args)
    loop = next(row["clips_per_s"] for row in rows if row["way"] == "authors' loop")
    cells = [
        (
            *(row["way"], str(row["clips"]), f"{row['clips_per_s']:.1f}", f"{row['spread']:.0%}"),
            *(f"{row['bound_clips_per_s']:.1f}", f"{row['clips_per_s'] / row['bound_clips_per_s']:.0%}"),
            f"{row['clips_per_s'] / loop:.1f}",
        )
        for row in rows
    ]
    show(
        Table(headings=HEADINGS.split("|"), rows=cells),
        repeats=f"medians of {args.repeats}",
        device=args.device,
    )
    save(f"score_steps_{args.device}", device=args.device, repeats=args.repeats, rows=rows)


if __name__ == "__main__":
    main()
