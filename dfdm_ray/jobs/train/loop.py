"""The training loop of one rank; alone or with others through ``torch.distributed``.

All ranks take the same steps: batches are whole by construction, and whether to stop is decided from values
that are equal on every rank. Knows nothing of Ray.
"""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import Recipe
from dfdm_ray.jobs.train.data import Reader, TrainingClips, Videos, WholeVideos, epoch_order, rank_parts
from dfdm_ray.jobs.train.optim import learning_rate, make_loss, make_optimizer
from dfdm_ray.models.dma_sta import DmaSta, normalize

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of the crops' channels, in 0..1."""


_JUDGED_AT_ONCE = 4
"""Videos in a forward pass of validation."""


def rank() -> int:
    """Return this process's number among those that train together."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One line of the history."""

    epoch: int
    """From 1."""
    train_loss: float
    train_accuracy: float
    """Of the augmented clips, as they were trained on."""
    val_loss: float
    val_accuracy: float
    learning_rate: float
    """Of the last step."""
    seconds: float


@dataclass(kw_only=True)
class Fit:
    """A network in training; the same on every rank.

    Args:
        model: On its device.
        recipe: How it is trained.
        normalization: Of the crops.
        seed: Of order and augmentation.
        loaders: Processes that read clips.
    """

    model: DmaSta
    recipe: Recipe
    normalization: Normalization
    seed: int
    loaders: int = 0
    history: list[EpochResult] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    """State dict of the best epoch on validation so far."""

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        self._optimizer = make_optimizer(self.model, self.recipe)
        self._reader = Reader(processes=self.loaders, device=self.device.type)
        self._mean: AveragedModel | None = None
        if self.recipe.ema_decay:
            update = running_mean(self.recipe.ema_decay)
            self._mean = AveragedModel(self.model, avg_fn=update, use_buffers=True)
        self._parallel: nn.Module = self.model
        if world_size() > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self._parallel = DistributedDataParallel(self.model, device_ids=devices)
        precision = self.recipe.precision
        self._bf16 = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")

    @property
    def kept(self) -> DmaSta:
        """The network to be judged and kept: the running mean if there is one."""
        if self._mean is None:
            return self.model
        return cast(DmaSta, self._mean.module)

    @property
    def best_epoch(self) -> int:
        """The number of :func:`best_of`, from 1."""
        return best_of(self.history).epoch

    def run_epoch(self, train: Videos, val: Videos) -> EpochResult:
        """Train one epoch, judge it on ``val`` and add it to the history.

        Raises:
            UserError: If the loss is no longer a number; nothing of the epoch is kept then.
        """
        started = time.monotonic()
        epoch = len(self.history)
        loss, accuracy, rate = self._train(train, epoch)
        logits = self.logits(val)
        labels = torch.tensor(val.labels)
        val_accuracy = float((logits.argmax(1) == labels).float().mean())
        result = EpochResult(
            epoch=epoch + 1,
            train_loss=loss,
            train_accuracy=accuracy,
            val_loss=float(nn.functional.cross_entropy(logits, labels)),
            val_accuracy=val_accuracy,
            learning_rate=rate,
            seconds=time.monotonic() - started,
        )
        self.history.append(result)
        if self.best_epoch == result.epoch:
            self.best = {name: value.detach().cpu().clone() for name, value in self.kept.state_dict().items()}
        return result

    def _train(self, videos: Videos, epoch: int) -> tuple[float, float, float]:
        """Return mean loss and accuracy over all ranks' clips, and the last learning rate."""
        recipe = self.recipe
        order = epoch_order(len(videos), batch_size=recipe.batch_size, seed=self.seed, epoch=epoch)
        clips = TrainingClips(
            videos=videos, num_frames=self.model.config.num_frames, augment=recipe.augment, seed=self.seed
        )
        parts = rank_parts(order, rank=rank(), world_size=world_size(), parts=recipe.micro_batches)
        if recipe.reset_momentum:
            self._optimizer = make_optimizer(self.model, recipe)
        loss_of = make_loss(recipe, videos.labels, self.model.config.num_classes).to(self.device)
        sums = torch.zeros(2, dtype=torch.float64)
        rate = 0.0
        self._parallel.train()
        batches = self._reader.read(clips, [[(epoch, video) for video in part] for part in parts])
        for step in range(len(order)):
            rate = learning_rate(recipe, epoch=epoch, step=step, steps=len(order))
            sums += self._step(batches, loss_of, rate)
        sums = _summed(sums) / order.size
        return float(sums[0]), float(sums[1]), rate

    def _step(self, batches: Any, loss_of: nn.Module, rate: float) -> Tensor:
        """Take one optimiser step; return the sums of loss and of right answers over this rank's clips."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(2, dtype=torch.float64)
        parts = self.recipe.micro_batches
        for part in range(parts):
            crops, labels = next(batches)
            labels = labels.to(self.device)
            # Gradients are summed over parts here and over ranks only once, at the last.
            waits = part < parts - 1 and isinstance(self._parallel, DistributedDataParallel)
            with self._parallel.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                logits = self._forward(self._parallel, crops, bf16=self._bf16)
                loss = loss_of(logits, labels)
                # DDP takes the mean over ranks: this makes it the mean over the batch's clips.
                (loss * (world_size() / self.recipe.batch_size)).backward()
            right = (logits.argmax(1) == labels).sum()
            sums += torch.stack([loss.detach(), right]).double().cpu()
        length = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm or float("inf"))
        if not torch.isfinite(length):  # equal on all ranks: gradients are shared by now
            raise UserError(
                f"the loss is no longer a number in epoch {len(self.history) + 1}; give a lower "
                "--recipe.learning-rate. What earlier epochs saved is kept"
            )
        self._optimizer.step()
        if self._mean is not None:
            self._mean.update_parameters(self.model)
        return sums

    def _forward(self, model: nn.Module, crops_u8: Tensor, *, bf16: bool) -> Tensor:
        x_BTCHW = normalize(crops_u8.to(self.device, non_blocking=True), *self.normalization)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            logits: Tensor = model(x_BTCHW).logits
        return logits

    @torch.inference_mode()
    def logits(self, videos: Videos) -> Tensor:
        """Return the mean logits over each video's clips, as ``score`` has them, ``(N, K)`` on every rank.

        Every video is judged once, by one rank, in float32.
        """
        numbers = list(range(rank(), len(videos), world_size()))
        mine = [numbers[start : start + _JUDGED_AT_ONCE] for start in range(0, len(numbers), _JUDGED_AT_ONCE)]
        dataset = WholeVideos(videos=videos, num_frames=self.model.config.num_frames)
        model = self.kept.eval()
        if world_size() > 1:
            for buffer in model.buffers():  # batch statistics differ by rank, and the first one's are saved
                dist.broadcast(buffer, src=0)
        found: dict[int, Tensor] = {}
        for clips_BC, judged in self._reader.read(dataset, mine):
            each = self._forward(model, clips_BC.flatten(0, 1), bf16=False).cpu()
            means = each.reshape(len(judged), -1, each.shape[1]).mean(dim=1)
            found |= dict(zip(judged.tolist(), means, strict=True))
        parts: list[dict[int, Tensor]] = [found]
        if world_size() > 1:
            parts = [{} for _ in range(world_size())]
            dist.all_gather_object(parts, found)
        merged = {number: row for part in parts for number, row in part.items()}
        return torch.stack([merged[number] for number in range(len(videos))])

    def to_bytes(self) -> bytes:
        """Return everything that training goes on from, whatever the number of ranks."""
        out = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "mean": None if self._mean is None else self._mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best,
            "history": [asdict(result) for result in self.history],
        }
        torch.save(state, out)
        return out.getvalue()

    def restore(self, content: bytes) -> None:
        """Go on from what :meth:`to_bytes` returned for the same model and recipe."""
        state = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        if self._mean is not None:
            self._mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.history = [EpochResult(**result) for result in state["history"]]


def running_mean(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return the update of a running mean whose decay rises to ``decay``, so that the first weights fade.

    After ``n`` updates the decay is at most ``(1 + n) / (10 + n)``, as in TensorFlow's
    ``ExponentialMovingAverage``.
    """

    def update(mean: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(updates)) / (10 + float(updates)))
        return mean * now + new * (1 - now)

    return update


def best_of(history: Sequence[EpochResult]) -> EpochResult:
    """Return the epoch most accurate on validation; among equals the one of lowest loss."""
    return max(history, key=lambda one: (one.val_accuracy, -one.val_loss))


def _summed(values: Tensor) -> Tensor:
    """Return the sum over ranks."""
    if world_size() > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        values = values.to(device)
        dist.all_reduce(values)
    return values.cpu()
