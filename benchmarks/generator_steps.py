"""How fast each generator trains, compared with the bound set by the machine's arithmetic.

A step is that of ``dfdm-ray generate``: augment a batch of each identity, run the network forward and
backward, and let Adam step. The bound is the step's convolutions and matrix products (counted by torch's
FlopCounterMode) at the rate of a large float32 matrix product, measured in the same minute.
The benchmark starts no Ray and decodes no video. The faces are noise, which costs the same as real faces.

python benchmarks/generator_steps.py [--width 0.25] [--batch-size 4] [--device cpu]
"""

import argparse
import statistics

import numpy as np
import torch
from report import Table, parser, save, show
from timing import gflop_of, matmul_gflops, seconds

from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.train import SwapTrainer
from dfdm_ray.labels import GENERATORS

STEPS = {"cpu": 2, "cuda": 20}
"""Steps in one timing."""
HEADINGS = "generator|parameters|GFLOP/step|steps/s|spread|bound, steps/s|of the bound|augmentation"


def make_trainer(generator: str, args: argparse.Namespace) -> SwapTrainer:
    config = SwapTrainConfig(width=args.width, batch_size=args.batch_size, face_px=args.face_px)
    rng = np.random.default_rng(0)
    shape = (2 * args.batch_size, args.face_px, args.face_px, 3)
    faces = {side: rng.integers(0, 256, shape, dtype=np.uint8) for side in "ab"}
    return SwapTrainer(generator=generator, faces=faces, config=config, seed=0, device=args.device)


def run_steps(trainer: SwapTrainer, steps: int) -> None:
    """Train ``steps`` more iterations."""
    for _ in range(steps):
        trainer.step()


def draw_samples(trainer: SwapTrainer, steps: int) -> None:
    """Do the augmentation of ``steps`` iterations, without training."""
    for _ in range(steps):
        for side in ("a", "b"):
            trainer.draw(side)


def measure(args: argparse.Namespace) -> list[dict[str, object]]:
    trainers = {generator: make_trainer(generator, args) for generator in GENERATORS}
    # Counting also warms up.
    gflop = {name: gflop_of(lambda one=trainer: run_steps(one, 1)) for name, trainer in trainers.items()}
    steps = STEPS[args.device]
    step: dict[str, list[float]] = {generator: [] for generator in trainers}
    draw: dict[str, list[float]] = {generator: [] for generator in trainers}
    rates = []
    for _ in range(args.repeats):  # interleaved, so that other load on the machine affects all alike
        rates.append(matmul_gflops(args.device))
        for generator, trainer in trainers.items():
            step[generator].append(seconds(lambda one=trainer: run_steps(one, steps), args.device) / steps)
            draw[generator].append(seconds(lambda one=trainer: draw_samples(one, steps), args.device) / steps)
    rate = statistics.median(rates)
    return [
        {
            "generator": str(generator),
            "parameters": sum(values.numel() for values in trainer.network.parameters()),
            "gflop_per_step": gflop[generator],
            "steps_per_s": 1 / statistics.median(step[generator]),
            "spread": (max(step[generator]) - min(step[generator])) / statistics.median(step[generator]),
            "bound_steps_per_s": rate / gflop[generator],
            "augmentation_fraction": statistics.median(draw[generator]) / statistics.median(step[generator]),
            "matmul_gflops": rate,
        }
        for generator, trainer in trainers.items()
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--width", type=float, default=0.25)
    options.add_argument("--batch-size", type=int, default=4)
    options.add_argument("--face-px", type=int, default=256)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--threads", type=int, default=1, help="threads of torch; a Ray task has 1")
    options.add_argument("--repeats", type=int, default=7)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    rows = measure(args)
    cells = [
        (
            *(row["generator"], f"{row['parameters']:,}", f"{row['gflop_per_step']:.1f}"),
            *(f"{row['steps_per_s']:.2f}", f"{row['spread']:.0%}", f"{row['bound_steps_per_s']:.2f}"),
            *(f"{row['steps_per_s'] / row['bound_steps_per_s']:.0%}", f"{row['augmentation_fraction']:.0%}"),
        )
        for row in rows
    ]
    remark = f"matrix product, float32: {rows[0]['matmul_gflops']:.0f} GFLOP/s"
    table = Table(headings=HEADINGS.split("|"), rows=cells, remark=remark)
    show(table, repeats=f"medians of {args.repeats}", device=args.device)
    save(f"generator_steps_{args.device}", device=args.device, repeats=args.repeats, rows=rows)


if __name__ == "__main__":
    main()
