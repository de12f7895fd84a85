"""Train one generator on one pair of identities; stops and continues at any iteration."""

import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dfdm_ray.errors import UserError
from dfdm_ray.generators.alignment import FACE_SPAN_MFU, spans
from dfdm_ray.generators.augment import STILL, AugmentConfig, training_pairs
from dfdm_ray.generators.losses import make_optimizer, training_loss
from dfdm_ray.generators.masks import render_masks
from dfdm_ray.generators.swap_autoencoder import SIDES, Side, SwapAutoencoder, build_generator
from dfdm_ray.jobs.generate.config import SwapTrainConfig

Faces = npt.NDArray[np.uint8]

_WARM_UP = 50
"""Iterations in which the cosine schedule rises; without it 8e-4 makes Dfaker diverge."""

_SETTLED = 50
"""Iterations over which a loss is averaged to tell whether it rises."""

_JUDGED = 64
"""Faces of each side on which a reconstruction is judged."""


@dataclass(kw_only=True)
class SwapTrainer:
    """A generator in training on the aligned faces of identities ``a`` and ``b``.

    Args:
        generator: Its name.
        faces: Of each side, RGB, uint8 ``(M, S, S, 3)``, :data:`FACE_SPAN_MFU` wide.
        config: How it is trained.
        seed: Of the weights and the augmentation.
        device: Torch device.
    """

    generator: str
    faces: dict[Side, Faces]
    config: SwapTrainConfig
    seed: int
    device: str
    losses: list[float] = field(default_factory=list)
    """Of every iteration so far."""

    def __post_init__(self) -> None:
        network = build_generator(self.generator, width=self.config.width, seed=self.seed)
        self.network: SwapAutoencoder = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = make_optimizer(self.network, lr=self.config.learning_rate)
        self._random = torch.Generator().manual_seed(self.seed)
        self._augment = augmentation(self.config)
        self._faces = {side: _to_tensor(self.faces[side], self.device) for side in SIDES}
        size = self.faces["a"].shape[1]
        self._masks = torch.from_numpy(render_masks(size, span_mfu=FACE_SPAN_MFU)).to(self.device)

    def run(self, report: Callable[[int], None], *, report_every: int) -> None:
        """Train to the configured number of iterations; ``report`` gets the iteration now and then."""
        self.network.train()
        while len(self.losses) < self.config.iterations:
            self.losses.append(self._step())
            if len(self.losses) % report_every == 0:
                report(len(self.losses))
        self.network.eval()

    def _step(self) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        factor = learning_rate_factor(len(self.losses), self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        total = torch.zeros((), device=self.device)
        for side in SIDES:
            inputs, targets, masks = self.draw(side)
            total = total + training_loss(targets, self.network(inputs, side), masks, kind=self.config.loss)
        total.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self._optimizer.step()
        return float(total.detach())

    def draw(self, side: Side) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next batch of a side: inputs, targets and target masks, see :func:`training_pairs`."""
        faces = self._faces[side]
        chosen = torch.randint(len(faces), (self.config.batch_size,), generator=self._random)
        return self._pairs(faces[chosen.to(self.device)], self._augment, self._random)

    def _pairs(
        self, faces_u8: Tensor, augment: AugmentConfig, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        masks = self._masks.expand(len(faces_u8), -1, -1, -1)
        sizes = (self.network.input_size, self.network.output_size)
        return training_pairs(faces_u8, masks, augment, *sizes, random)

    @torch.inference_mode()
    def psnr_db(self, side: Side) -> float:
        """Return the PSNR of a side's faces drawn as themselves, within the face mask, in dB."""
        inputs, targets, masks = self._quiet(side, _JUDGED)
        error = (self.network.eval()(inputs, side) - targets).square() * masks[:, :1]
        return float(-10 * torch.log10(error.sum() / (3 * masks[:, :1].sum())))

    @torch.inference_mode()
    def preview(self, *, count: int = 6) -> Faces:
        """Draw A, A->A, A->B, B, B->B, B->A in a line for each of ``count`` samples, RGB ``(H, W, 3)``."""
        self.network.eval()
        columns = []
        orders: tuple[tuple[Side, Side], ...] = (("a", "b"), ("b", "a"))
        for own, other in orders:
            inputs, targets, _ = self._quiet(own, count)
            columns += [targets, self.network(inputs, own), self.network(inputs, other)]
        sheet = torch.stack(columns).permute(1, 3, 0, 4, 2).flatten(2, 3).flatten(0, 1)
        return (sheet.clamp(0, 1) * 255).round().byte().cpu().numpy()

    def _quiet(self, side: Side, count: int) -> tuple[Tensor, Tensor, Tensor]:
        faces = self._faces[side]
        spread = torch.linspace(0, len(faces) - 1, min(count, len(faces))).long().to(self.device)
        quiet = dataclasses.replace(STILL, coverage=self.config.coverage)
        return self._pairs(faces[spread], quiet, torch.Generator().manual_seed(0))

    def network_bytes(self) -> bytes:
        """Return the network alone, a third of :meth:`to_bytes`: all that conversion needs."""
        out = io.BytesIO()
        torch.save(self.network.state_dict(), out)
        return out.getvalue()

    def to_bytes(self) -> bytes:
        """Return everything that training goes on from."""
        out = io.BytesIO()
        torch.save(
            {
                "generator": str(self.generator),
                "config": dataclasses.asdict(self.config),
                "network": self.network.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "random": self._random.get_state(),
                "losses": self.losses,
            },
            out,
        )
        return out.getvalue()

    def restore(self, content: bytes, *, name: str) -> None:
        """Go on from what :meth:`to_bytes` returned.

        Raises:
            UserError: If it was trained with other settings, the number of iterations left aside.
        """
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        before, now = (
            {**config, "iterations": 0} for config in (state["config"], dataclasses.asdict(self.config))
        )
        if before != now or state["generator"] != str(self.generator):
            raise UserError(f"{name} was trained with other settings; give a new --out or the old settings")
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._random.set_state(state["random"].cpu())
        self.losses = list(state["losses"])


def augmentation(config: SwapTrainConfig) -> AugmentConfig:
    """Return how far samples stray from the stored faces: as in faceswap, less what is switched off."""
    augment = AugmentConfig(coverage=config.coverage)
    if not config.augment_colour:
        augment = dataclasses.replace(augment, clahe_probability=0, lightness=0, colour=0)
    if not config.flip:
        augment = dataclasses.replace(augment, flip_probability=0)
    return augment


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the last losses are twice as high as they have been, or no numbers.

    A network that has diverged draws one colour and does not come back from that. Losses are averaged over
    :data:`_SETTLED` iterations; healthy trainings stayed within 1.1 times their lowest.
    """
    means = [
        float(np.mean(losses[start : start + _SETTLED]))
        for start in range(0, len(losses) - _SETTLED + 1, _SETTLED)
    ]
    return bool(means) and not means[-1] <= 2 * min(means)  # so that nan is told too


def learning_rate_factor(iteration: int, config: SwapTrainConfig) -> float:
    """Return what the learning rate is multiplied with at an iteration, counted from 0; 0..1."""
    if config.schedule == "constant":
        return 1.0
    warm = min(1.0, (iteration + 1) / _WARM_UP)
    return warm * (1 + math.cos(math.pi * iteration / config.iterations)) / 2


def _to_tensor(faces: Faces, device: str) -> Tensor:
    return torch.from_numpy(faces).to(device).permute(0, 3, 1, 2)


def conversion_spans(config: SwapTrainConfig) -> tuple[float, float]:
    """Return the width of the crop in training and in conversion, in mean-face units."""
    both = spans(config.coverage, faithful=config.faithful_crop)
    return both.train_mfu, both.convert_mfu
