"""How fast DMA-STA trains, compared with the bound set by the machine's arithmetic.

A step is that of ``dfdm-ray train`` once the crops are loaded: copy to the device, normalise, run forward and
backward (bfloat16 on a GPU), clip the gradient, AdamW, running mean of the weights ("mean": its share). The
bound is the step's convolutions and matrix products (counted by torch's FlopCounterMode) at the rate of a
large matrix product of the same type, measured in the same minute. The benchmark starts no Ray and decodes no
video. The crops are noise.

python benchmarks/train_steps.py [--device cuda] [--backbone resnet50] [--frames 10] [--batch-sizes 20 64]
"""

import argparse
import statistics
import sys
from collections.abc import Callable

import torch
from report import Table, parser, save, show
from timing import gflop_of, matmul_gflops, seconds

from dfdm_ray.jobs.train.config import Recipe
from dfdm_ray.jobs.train.mean import RunningMean
from dfdm_ray.jobs.train.optim import make_loss, make_optimizer
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import random_model
from dfdm_ray.models.dma_sta import DmaStaConfig, normalize

HEADINGS = "clips|GFLOP/step|steps/s|spread|images/s|bound, steps/s|of the bound|mean|GPU memory"


def make_step(args: argparse.Namespace, batch_size: int) -> tuple[Callable[[], None], RunningMean]:
    """Return a function that takes one optimiser step on ``batch_size`` clips, and its running mean."""
    recipe = Recipe()
    config = DmaStaConfig(backbone=args.backbone, num_frames=args.frames, high_pass=True)
    model = random_model(config, seed=0).to(args.device, memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe)
    mean = RunningMean(model, decay=recipe.ema_decay)
    labels = torch.randint(0, len(GENERATORS), (batch_size,))
    loss_of = make_loss(recipe, range(len(GENERATORS)), len(GENERATORS)).to(args.device)
    shape = (batch_size, args.frames, args.crop_size, args.crop_size, 3)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8)
    if args.device == "cuda":
        crops = crops.pin_memory()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        x_BTCHW = normalize(crops.to(args.device, non_blocking=True))
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.device == "cuda"):
            logits = model(x_BTCHW).logits
        (loss_of(logits, labels.to(args.device)) / batch_size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        mean.update()

    return step, mean


def measure(args: argparse.Namespace, batch_size: int) -> dict[str, float]:
    """Return the figures of one batch size.

    Raises:
        torch.cuda.OutOfMemoryError: If a step does not fit the GPU.
    """
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step, mean = make_step(args, batch_size)
    gflop = gflop_of(step)  # also warms up
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    rates, times, of_mean = [], [], []
    for _ in range(args.repeats):  # interleaved, so that other load on the machine affects both alike
        rates.append(matmul_gflops(args.device, dtype))
        times.append(seconds(lambda: [step() for _ in range(args.steps)], args.device) / args.steps)
        of_mean.append(seconds(lambda: [mean.update() for _ in range(args.steps)], args.device) / args.steps)
    median, rate = statistics.median(times), statistics.median(rates)
    return {
        "batch_size": batch_size,
        "gflop_per_step": gflop,
        "steps_per_s": 1 / median,
        "spread": (max(times) - min(times)) / median,
        "mean_fraction": statistics.median(of_mean) / median,
        "images_per_s": batch_size * args.frames / median,
        "matmul_gflops": rate,
        "bound_steps_per_s": rate / gflop,
        "gpu_gib": torch.cuda.max_memory_allocated() / 2**30 if args.device == "cuda" else 0.0,
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--backbone", default="resnet50")
    options.add_argument("--frames", type=int, default=10)
    options.add_argument("--crop-size", type=int, default=224)
    options.add_argument("--batch-sizes", type=int, nargs="+", default=[20])
    options.add_argument("--steps", type=int, default=1, help="steps in one timing; use 10 on a GPU")
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    rows = []
    for batch_size in args.batch_sizes:
        try:
            rows.append(measure(args, batch_size))
        except torch.cuda.OutOfMemoryError:
            print(f"{batch_size} clips do not fit the GPU's memory")
    if not rows:
        sys.exit(2)
    cells = [
        (
            *(f"{row['batch_size']}", f"{row['gflop_per_step']:.0f}", f"{row['steps_per_s']:.3f}"),
            *(f"{row['spread']:.0%}", f"{row['images_per_s']:.1f}", f"{row['bound_steps_per_s']:.3f}"),
            *(f"{row['steps_per_s'] / row['bound_steps_per_s']:.0%}", f"{row['mean_fraction']:.1%}"),
            f"{row['gpu_gib']:.1f} GiB",
        )
        for row in rows
    ]
    rate = statistics.median(row["matmul_gflops"] for row in rows)
    kind = "bfloat16" if args.device == "cuda" else "float32"
    remark = f"matrix product, {kind}: {rate:.0f} GFLOP/s"
    table = Table(headings=HEADINGS.split("|"), rows=cells, remark=remark)
    show(table, repeats=f"medians of {args.repeats}", device=args.device)
    save(f"train_steps_{args.device}", device=args.device, repeats=args.repeats, rows=rows)


if __name__ == "__main__":
    main()
