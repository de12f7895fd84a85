"""Train all networks of a dataset of ``dfdm-ray generate`` side by side on one GPU.

``generate`` trains each network in a process of its own, and a GPU then waits for kernels to be launched.
Here one process records the step of every network as a CUDA graph and replays all of them, on several
streams, with samples drawn for all at once. Networks, samples, loss and optimiser are those of ``generate``.

dfdm-ray generate --out made ... --train.no-augment-colour   # stop it (Ctrl-C) when it starts training
python benchmarks/many_networks.py --dataset made --pairs id0_id1    # trains by the settings of that command
dfdm-ray generate --out made ...                             # the same command again converts the scenes

``--pairs id0_id1 id2_id3`` names the pairs by the ids of ``generate``, which numbers the identities by name.
"""

import io
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import Table, parser, save, show
from torch import Tensor, nn

from dfdm_ray.faces.alignment import FACE_SPAN_MFU
from dfdm_ray.generators import build_generator, losses
from dfdm_ray.generators.augment import AugmentConfig, training_pairs
from dfdm_ray.generators.base import SIDES
from dfdm_ray.generators.masks import render_masks
from dfdm_ray.io import storage
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.faces import FacePool, read_faces
from dfdm_ray.jobs.generate.plan import network_folder
from dfdm_ray.jobs.generate.train import SwapTrainer, augmentation, learning_rate_factor
from dfdm_ray.labels import Generator

STREAMS = 6
"""Streams on which graphs are replayed at the same time."""

_ON_A_STREAM_FIRST = 2
"""Steps before a graph is recorded, in which torch chooses algorithms and takes memory."""


class Samples:
    """Training samples of all pairs, drawn at once; the buffers of each size stay where they are."""

    def __init__(
        self, pools: list[list[np.ndarray]], augment: AugmentConfig, batch: int, device: str
    ) -> None:
        self.device, self.augment, self.batch = device, augment, batch
        self.faces_NHW3 = torch.from_numpy(np.concatenate([one for pair in pools for one in pair])).to(device)
        counts = torch.tensor([[len(one) for one in pair] for pair in pools])
        self.counts, self.starts = counts, (counts.flatten().cumsum(0) - counts.flatten()).view_as(counts)
        masks_MHW = render_masks(self.faces_NHW3.shape[1], span_mfu=FACE_SPAN_MFU)
        self.masks_MHW = torch.from_numpy(np.rint(masks_MHW * 255).astype(np.uint8)).to(device)
        self.random = torch.Generator().manual_seed(0)
        self.kept: dict[tuple[int, int], list[list[Tensor]]] = {}

    def draw(self, sizes: tuple[int, int]) -> list[list[Tensor]]:
        """Return inputs, targets and masks of each pair; the samples of ``a`` come before those of ``b``."""
        share = torch.rand(len(self.counts), 2, self.batch, generator=self.random)
        chosen = (share * self.counts[..., None]).long() + self.starts[..., None]
        faces = self.faces_NHW3[chosen.flatten().to(self.device)].permute(0, 3, 1, 2)
        masks = self.masks_MHW.expand(len(faces), -1, -1, -1)
        found = training_pairs(faces, masks, self.augment, *sizes, self.random)
        return [
            [part.clone(memory_format=torch.channels_last) for part in one.split(2 * self.batch)]
            for one in found
        ]

    def refill(self) -> None:
        """Draw new samples into the buffers."""
        for sizes, kept in self.kept.items():
            for old, new in zip(kept, self.draw(sizes), strict=True):
                torch._foreach_copy_(old, new)


class Network:
    """A network with its optimiser, and its step as a graph."""

    def __init__(
        self, generator: Generator, number: int, config: SwapTrainConfig, lr: Tensor, samples: Samples
    ) -> None:
        self.config, self.generator, self.number = config, generator, number
        seed = 1000 * list(Generator).index(generator) + number
        self.module = build_generator(generator, width=config.width_of(generator), seed=seed)
        self.module.to(samples.device, memory_format=torch.channels_last)
        on_gpu = samples.device == "cuda"
        self.optimizer = torch.optim.Adam(
            self.module.parameters(), lr=lr, betas=(0.5, 0.99), eps=1e-7, fused=on_gpu, capturable=on_gpu
        )
        sizes = (self.module.input_size, self.module.output_size)
        if sizes not in samples.kept:
            samples.kept[sizes] = samples.draw(sizes)
        self.inputs, self.targets, self.masks = (one[number] for one in samples.kept[sizes])
        self.kind, self.loss = samples.device, torch.zeros((), device=samples.device)
        self.graph: Any = None
        for parameter in self.module.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def step(self) -> None:
        """Take one step on the samples in the buffers; the two sides share one loss, twice their mean."""
        self.optimizer.zero_grad(set_to_none=False)
        halves = self.inputs.chunk(2)
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.kind == "cuda", cache_enabled=False):
            drawn = torch.cat([self.module(x, side) for x, side in zip(halves, SIDES, strict=True)])
        loss = 2 * losses.training_loss(self.targets, drawn.float(), self.masks, kind=self.config.loss)
        loss.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.loss.copy_(loss.detach())

    def record(self, stream: Any, pool: Any) -> None:
        """Record the step as a graph."""
        with torch.cuda.stream(stream):
            for _ in range(_ON_A_STREAM_FIRST):
                self.step()
        stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream):
            self.step()


def train(
    networks: list[Network], samples: Samples, lr: Tensor, config: SwapTrainConfig, streams: list
) -> None:
    """Train all networks to the last iteration."""
    for iteration in range(config.iterations):
        lr.fill_(config.learning_rate * learning_rate_factor(iteration, config))
        samples.refill()
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream())
        for number, network in enumerate(networks):
            if streams:
                with torch.cuda.stream(streams[number % len(streams)]):
                    network.graph.replay()
            else:
                network.step()
        for stream in streams:
            torch.cuda.current_stream().wait_stream(stream)
        if iteration % 100 == 99:
            mean = np.mean([float(one.loss) for one in networks])
            print(f"{iteration + 1}/{config.iterations} iterations: mean loss {mean:.3f}", flush=True)


def record_all(networks: list[Network]) -> list[Any]:
    """Record the step of each network; return the streams on which to replay them."""
    streams = [torch.cuda.Stream() for _ in range(STREAMS)]
    pools = [torch.cuda.graph_pool_handle() for _ in streams]
    for number, network in enumerate(networks):
        network.record(streams[number % STREAMS], pools[number % STREAMS])
    return streams


def write(network: Network, folder: Path, pools: list[np.ndarray], device: str) -> dict[str, Any]:
    """Write the files of a finished training of ``generate``; return the PSNR of each side in dB."""
    faces = dict(zip(SIDES, (FacePool([one]) for one in pools), strict=True))
    trainer = SwapTrainer(
        generator=network.generator, faces=faces, config=network.config, seed=0, device=device
    )
    trainer.network.load_state_dict(network.module.state_dict())
    found = {side: round(trainer.psnr_db(side), 2) for side in SIDES}
    content = io.BytesIO()
    torch.save(trainer.network.state_dict(), content)
    storage.write_atomic(str(folder / "network.pt"), content.getvalue())
    storage.write_atomic(str(folder / "result.json"), json.dumps(found).encode())
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--dataset", type=Path, required=True, help="--out of `dfdm-ray generate`")
    options.add_argument("--pairs", nargs="+", required=True)
    options.add_argument("--generators", nargs="+", type=Generator, default=list(Generator))
    args = options.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stored = json.loads((args.dataset / "run.json").read_text())["settings"]
    known = {field.name for field in fields(SwapTrainConfig)}
    given = {name.removeprefix("train."): value for name, value in stored.items()}
    config = SwapTrainConfig(
        widths=tuple(value for name, value in given.items() if name.startswith("widths.")),
        **{name: value for name, value in given.items() if name in known},
    )
    if config.even_inputs:
        raise SystemExit("even inputs are not supported here; train with `dfdm-ray generate`")
    pools = [[faces_of(args.dataset, one) for one in pair.split("_")] for pair in args.pairs]
    samples = Samples(pools, augmentation(config), config.batch_size, device)
    # Little is learned while graphs are recorded.
    lr = torch.tensor(config.learning_rate / 100, device=device)
    networks = [
        Network(generator, number, config, lr, samples)
        for generator in args.generators
        for number in range(len(pools))
    ]
    streams = record_all(networks) if device == "cuda" else []
    began = time.monotonic()
    train(networks, samples, lr, config, streams)
    if device == "cuda":
        torch.cuda.synchronize()
    rate = config.iterations * len(networks) / (time.monotonic() - began)
    rows = []
    for network in networks:
        pair = args.pairs[network.number]
        folder = network_folder(args.dataset, pair, network.generator)
        found = write(network, folder, pools[network.number], device)
        rows.append([network.generator, pair, *(f"{found[side]:.1f}" for side in SIDES)])
    remark = f"{len(networks)} networks, {rate:.0f} steps/s in all"
    show(
        Table(headings=["generator", "pair", "A->A, dB", "B->B, dB"], rows=rows, remark=remark), device=device
    )
    save(f"many_networks_{device}", device=device, steps_per_s=rate, networks=len(networks))


def faces_of(dataset: Path, identity: str) -> np.ndarray:
    """Return all faces of an identity, RGB, ``(N, S, S, 3)``."""
    files = sorted((dataset / "work" / "faces").glob(f"{identity}_*.npz"))
    if not files:
        raise SystemExit(f"{dataset} has no faces of {identity} yet; run `dfdm-ray generate` first")
    return np.concatenate([read_faces(file) for file in files])


if __name__ == "__main__":
    main()
