"""How fast each generator trains, and how near that is to what the machine's arithmetic allows.

A step is what ``dfdm-ray generate`` does: augment a batch of either identity, run the network forwards and
backwards, and let Adam step. The bound is the step's convolutions and matrix products (torch's
FlopCounterMode counts them) at the rate of a large float32 matrix product, measured here in the same minute.
Needs neither Ray nor PyAV. The faces are noise: their content costs nothing and saves nothing.

python benchmarks/generator_steps.py [--width 0.25] [--batch-size 4] [--device cpu]
"""

import argparse
import dataclasses
import statistics
import sys

import numpy as np
import torch
from timing import machine, matmul_gflops, save, seconds
from torch.utils.flop_counter import FlopCounterMode

from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.train import SwapTrainer
from dfdm_ray.labels import GENERATORS

STEPS = {"cpu": 2, "cuda": 20}
"""Steps in one timing."""


def make_trainer(generator: str, args: argparse.Namespace) -> SwapTrainer:
    config = SwapTrainConfig(width=args.width, batch_size=args.batch_size, face_px=args.face_px)
    rng = np.random.default_rng(0)
    shape = (2 * args.batch_size, args.face_px, args.face_px, 3)
    faces = {side: rng.integers(0, 256, shape, dtype=np.uint8) for side in "ab"}
    return SwapTrainer(generator=generator, faces=faces, config=config, seed=0, device=args.device)


def run_steps(trainer: SwapTrainer, steps: int) -> None:
    """Train ``steps`` iterations more."""
    trainer.config = dataclasses.replace(trainer.config, iterations=len(trainer.losses) + steps)
    trainer.run(lambda _: None, report_every=10**9)


def draw_samples(trainer: SwapTrainer, steps: int) -> None:
    """Only the augmentation of ``steps`` iterations."""
    for _ in range(steps):
        for side in ("a", "b"):
            trainer.draw(side)


def gflop_per_step(trainer: SwapTrainer) -> float:
    with FlopCounterMode(display=False) as counter:
        run_steps(trainer, 1)
    return counter.get_total_flops() / 1e9


def measure(args: argparse.Namespace) -> list[dict[str, object]]:
    trainers = {generator: make_trainer(generator, args) for generator in GENERATORS}
    gflop = {generator: gflop_per_step(trainer) for generator, trainer in trainers.items()}  # warms up too
    steps = STEPS[args.device]
    step: dict[str, list[float]] = {generator: [] for generator in trainers}
    draw: dict[str, list[float]] = {generator: [] for generator in trainers}
    rates = []
    for _ in range(args.repeats):  # interleaved, so that a busy moment falls on all
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--face-px", type=int, default=256)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="a Ray task has one")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = measure(args)
    print(f"{machine(args.device)}; {' '.join(sys.argv)}")
    print(f"matrix product, float32: {rows[0]['matmul_gflops']:.0f} GFLOP/s; medians of {args.repeats}\n")
    headings = "generator|parameters|GFLOP/step|steps/s|spread|bound, steps/s|of the bound|augmentation"
    print(f"| {' | '.join(headings.split('|'))} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        reached = row["steps_per_s"] / row["bound_steps_per_s"]
        print(
            f"| {row['generator']} | {row['parameters']:,} | {row['gflop_per_step']:.1f} "
            f"| {row['steps_per_s']:.2f} | {row['spread']:.0%} | {row['bound_steps_per_s']:.2f} "
            f"| {reached:.0%} | {row['augmentation_fraction']:.0%} |"
        )
    save("generator_steps", rows, device=args.device, repeats=args.repeats)


if __name__ == "__main__":
    main()
