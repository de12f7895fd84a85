"""Training of one network: one generator on one pair of identities. It can stop after any iteration."""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from dfdm_ray.errors import UserError
from dfdm_ray.faces.alignment import FACE_SPAN_MFU, spans
from dfdm_ray.generators import build_generator
from dfdm_ray.generators.augment import STILL, AugmentConfig, even_faces, input_mask, training_pairs
from dfdm_ray.generators.augment_opencv import training_pairs_opencv
from dfdm_ray.generators.base import SIDES, Side, SwapAutoencoder
from dfdm_ray.generators.losses import make_optimizer, training_loss
from dfdm_ray.generators.masks import render_masks
from dfdm_ray.jobs.generate.config import EARLIER, SwapTrainConfig
from dfdm_ray.jobs.generate.faces import FacePool, Faces
from dfdm_ray.labels import Generator
from dfdm_ray.models.inference import computes_in_bfloat16

_WARM_UP = 50
"""Iterations in which the cosine schedule rises; without them Dfaker diverges at 8e-4."""

_SETTLED = 50
"""Iterations over which the loss is averaged to detect divergence."""

_JUDGED = 64
"""Faces of each side in the PSNR of a reconstruction."""

_DRAWN_AT_ONCE = 8
"""Faces in one forward pass for it: 64 would need more memory than the network in training."""


@dataclass(kw_only=True)
class SwapTrainer:
    """A network in training on the faces of identities ``a`` and ``b``."""

    generator: Generator
    faces: Mapping[Side, Faces | FacePool]
    """Aligned faces of each side, RGB, shape ``(M, S, S, 3)``, :data:`FACE_SPAN_MFU` wide."""
    config: SwapTrainConfig
    seed: int
    """Seed of the weights and of the augmentation."""
    device: str
    losses: list[float] = field(default_factory=list)
    """Loss of each iteration so far."""

    def __post_init__(self) -> None:
        width = self.config.width_of(self.generator)
        network = build_generator(self.generator, width=width, seed=self.seed)
        self.network: SwapAutoencoder = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._bf16 = computes_in_bfloat16(torch.device(self.device))
        self._optimizer = make_optimizer(self.network, lr=self.config.learning_rate)
        self._random = torch.Generator().manual_seed(self.seed)
        self._augment = augmentation(self.config)
        masks_MHW = render_masks(self.faces["a"].shape[1], span_mfu=FACE_SPAN_MFU)
        self._even: Tensor | None = None
        if self.config.even_inputs:
            span = spans(self.config.coverage, faithful=False).train_mfu
            self._even = input_mask(self.network.input_size, span_mfu=span).to(self.device)
        self._masks = np.ascontiguousarray(np.rint(masks_MHW.transpose(1, 2, 0) * 255).astype(np.uint8))
        self._masks_MHW = torch.from_numpy(self._masks).to(self.device).permute(2, 0, 1)

    def step(self) -> None:
        """Train one iteration and append its loss to ``losses``."""
        self._optimizer.zero_grad(set_to_none=True)
        factor = learning_rate_factor(len(self.losses), self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        total = torch.zeros((), device=self.device)
        for side in SIDES:
            inputs, targets, masks = self.draw(side)
            total = total + training_loss(targets, self._drawn(inputs, side), masks, kind=self.config.loss)
        total.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self._optimizer.step()
        self.losses.append(float(total.detach()))

    def _drawn(self, inputs: Tensor, side: Side) -> Tensor:
        """Run the network for training, in bfloat16 where the device computes in it.

        Weights, loss and steps stay in float32.
        """
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self._bf16):
            faces: Tensor = self.network(inputs, side)
        return faces.float()

    def draw(self, side: Side) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next batch of a side: inputs, targets and target masks, see :func:`training_pairs`."""
        faces = self.faces[side]
        chosen = torch.randint(len(faces), (self.config.batch_size,), generator=self._random)
        return self._pairs(faces[chosen.numpy()], self._augment, self._random)

    def _pairs(
        self, faces: Faces, augment: AugmentConfig, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        sizes = (self.network.input_size, self.network.output_size)
        if self.device == "cpu":
            inputs, *targets = training_pairs_opencv(faces, self._masks, augment, *sizes, random)
        else:
            faces_B3HW = torch.from_numpy(faces).to(self.device).permute(0, 3, 1, 2)
            masks_BMHW = self._masks_MHW.expand(len(faces), -1, -1, -1)
            inputs, *targets = training_pairs(faces_B3HW, masks_BMHW, augment, *sizes, random)
        return (inputs if self._even is None else even_faces(inputs, self._even), targets[0], targets[1])

    @torch.inference_mode()
    def psnr_db(self, side: Side) -> float:
        """Return the PSNR of a side's faces drawn as themselves, within the face mask, in dB."""
        inputs, targets, masks = self._still(side, _JUDGED)
        error, weight = 0.0, 3 * float(masks[:, :1].sum())
        parts = (torch.split(one, _DRAWN_AT_ONCE) for one in (inputs, targets, masks))
        for x, target, mask in zip(*parts, strict=True):
            error += float(((self.network(x, side) - target).square() * mask[:, :1]).sum())
        return 10 * math.log10(weight / error)

    @torch.inference_mode()
    def preview(self, *, count: int = 6) -> Faces:
        """Draw a line of A, A->A, A->B, B, B->B, B->A for each of ``count`` samples, RGB ``(H, W, 3)``."""
        columns = []
        orders: tuple[tuple[Side, Side], ...] = (("a", "b"), ("b", "a"))
        for own, other in orders:
            inputs, targets, _ = self._still(own, count)
            columns += [targets, self.network(inputs, own), self.network(inputs, other)]
        sheet = torch.stack(columns).permute(1, 3, 0, 4, 2).flatten(2, 3).flatten(0, 1)
        return (sheet.clamp(0, 1) * 255).round().byte().cpu().numpy()

    def _still(self, side: Side, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return samples spread over a side's faces, without random changes."""
        faces = self.faces[side]
        spread = np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int)
        still = dataclasses.replace(STILL, coverage=self.config.coverage)
        return self._pairs(faces[spread], still, torch.Generator().manual_seed(0))

    def state(self) -> dict[str, Any]:
        """Return the state from which :meth:`restore` continues; three times the size of the network."""
        return {
            "generator": str(self.generator),
            "config": dataclasses.asdict(self.config),
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": self._random.get_state(),
            "losses": self.losses,
        }

    def restore(self, file: str | Path | BinaryIO, *, name: str) -> None:
        """Continue from a file in which ``torch.save`` stored :meth:`state`.

        Raises:
            UserError: If it was trained with other settings, except for the number of iterations.
        """
        state: dict[str, Any] = torch.load(file, map_location=self.device, weights_only=True)
        now = {**dataclasses.asdict(self.config), "iterations": state["config"]["iterations"]}
        if {**EARLIER, **state["config"]} != now or state["generator"] != str(self.generator):
            raise UserError(f"{name} was trained with other settings; give a new --out or the old settings")
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._random.set_state(state["random"].cpu())
        self.losses = list(state["losses"])


def augmentation(config: SwapTrainConfig) -> AugmentConfig:
    """Return the augmentation of faceswap without the steps that ``config`` turns off or weakens."""
    augment = AugmentConfig(coverage=config.coverage)
    if not config.augment_colour:
        augment = dataclasses.replace(augment, clahe_probability=0, lightness=0, colour=0)
    affine = {
        name: getattr(augment, name) * config.geometry
        for name in ("rotation_degrees", "zoom_fraction", "shift_fraction")
    }
    augment = dataclasses.replace(augment, **affine)
    if not config.flip:
        augment = dataclasses.replace(augment, flip_probability=0)
    return augment


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the last losses are more than twice the lowest so far, or not numbers.

    A network that has diverged draws one colour and does not recover. Losses are averaged over
    :data:`_SETTLED` iterations; healthy trainings stayed within 1.1 times their lowest.
    """
    windows = len(losses) // _SETTLED
    means = np.array(losses[: windows * _SETTLED]).reshape(windows, _SETTLED).mean(axis=1)
    return bool(windows) and not means[-1] <= 2 * means.min()  # true for nan


def learning_rate_factor(iteration: int, config: SwapTrainConfig) -> float:
    """Return the factor on the learning rate at an iteration, counted from 0; 0..1."""
    if config.schedule == "constant":
        return 1.0
    warm = min(1.0, (iteration + 1) / _WARM_UP)
    return warm * (1 + math.cos(math.pi * iteration / config.iterations)) / 2


def draw_losses(losses: Sequence[float]) -> bytes:
    """Return a plot of the loss of each iteration and its running mean, a PNG file."""
    from matplotlib.figure import Figure  # slow to import, and only training draws

    window = max(1, len(losses) // 50)
    mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(losses) + 1), losses, alpha=0.3, label="each iteration")
    axes.plot(range(window, len(losses) + 1), mean, label=f"mean of {window}")
    axes.set(xlabel="iteration", ylabel="loss", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
