"""The training loop of one rank, which trains alone or with others through ``torch.distributed``.

All ranks take the same steps: every batch is full, and the decision to stop rests on values that are equal on
every rank.
"""

import contextlib
import copy
import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import Recipe
from dfdm_ray.jobs.train.data import Reader, TrainingClips, Videos, WholeVideos, epoch_order, rank_parts
from dfdm_ray.jobs.train.mean import RunningMean
from dfdm_ray.jobs.train.optim import learning_rate, make_loss, make_optimizer
from dfdm_ray.jobs.train.outliers import Outliers
from dfdm_ray.models.dma_sta import ClipNetwork, DmaStaOutput, normalize
from dfdm_ray.models.inference import computes_in_bfloat16

_VALIDATED_AT_ONCE = 4
"""Videos in one forward pass of validation."""


def rank() -> int:
    """Return the rank of this process, 0 if it trains alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One line of the history."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    train_accuracy: float
    """Measured on the augmented clips of the training steps."""
    val_loss: float
    val_accuracy: float
    learning_rate: float
    """Rate of the epoch's last step."""
    seconds: float


@dataclass(kw_only=True)
class Fit:
    """A network in training, equal on every rank. The model is on its device already."""

    model: ClipNetwork
    recipe: Recipe
    normalization: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Mean and standard deviation of each channel of the crops, in 0..1."""
    seed: int
    """Seed of the order of videos and of augmentation."""
    loaders: int = 0
    """Processes that read clips; 0: this one reads them."""
    history: list[EpochResult] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    """State dict of the epoch that is best on validation so far."""

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        self._optimizer = make_optimizer(self.model, self.recipe)
        self._reader = Reader(processes=self.loaders, device=self.device.type)
        decay = self.recipe.ema_decay
        self._mean = RunningMean(self.model, decay=decay) if decay else None
        self._parallel: nn.Module = self.model
        if world_size() > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self._parallel = DistributedDataParallel(self.model, device_ids=devices)
        precision = self.recipe.precision
        self._bf16 = precision == "bf16" or (precision == "auto" and computes_in_bfloat16(self.device))

    @property
    def kept(self) -> ClipNetwork:
        """The network to validate and save: the running mean of the weights if the recipe has one."""
        return self.model if self._mean is None else self._mean.model

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch so far, counted from 1."""
        return best_of(self.history).epoch

    def run_epoch(self, train: Videos, val: Videos) -> EpochResult:
        """Train one epoch, validate the network on ``val`` and add the result to the history.

        Raises:
            UserError: If the loss is no longer a finite number; the epoch is then not recorded.
        """
        started = time.monotonic()
        epoch = len(self.history)
        loss, accuracy, rate = self._train(train, epoch)
        logits = self.logits(val)
        labels = torch.tensor(val.labels)
        result = EpochResult(
            epoch=epoch + 1,
            train_loss=loss,
            train_accuracy=accuracy,
            val_loss=float(nn.functional.cross_entropy(logits, labels)),
            val_accuracy=float((logits.argmax(1) == labels).float().mean()),
            learning_rate=rate,
            seconds=time.monotonic() - started,
        )
        self.history.append(result)
        if self.best_epoch == result.epoch:
            self.best = {name: value.detach().cpu().clone() for name, value in self.kept.state_dict().items()}
        return result

    def _train(self, videos: Videos, epoch: int) -> tuple[float, float, float]:
        """Return the mean loss and accuracy over the clips of all ranks, and the last learning rate."""
        recipe = self.recipe
        order = epoch_order(len(videos), batch_size=recipe.batch_size, seed=self.seed, epoch=epoch)
        clips = TrainingClips(
            videos=videos, num_frames=self.model.config.num_frames, augment=recipe.augment, seed=self.seed
        )
        parts = rank_parts(order, rank=rank(), world_size=world_size(), parts=recipe.micro_batches)
        if recipe.reset_momentum:
            self._optimizer = make_optimizer(self.model, recipe)
        loss_of = make_loss(recipe, videos.labels, self.model.config.num_classes).to(self.device)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        rate, length = 0.0, torch.zeros(())
        self._parallel.train()
        batches = self._reader.read(clips, [[(epoch, video) for video in part] for part in parts])
        for step in range(len(order)):
            rate = learning_rate(recipe, epoch=epoch, step=step, steps=len(order))
            before = length
            length = self._step(batches, loss_of, rate, sums)
            self._require_finite(before)  # one step late: the device has work while this waits for it
        self._require_finite(length)
        sums = _summed(sums) / order.size
        return float(sums[0]), float(sums[1]), rate

    def _step(self, batches: Any, loss_of: nn.Module, rate: float, sums: Tensor) -> Tensor:
        """Take one optimiser step and return the length of the gradient, without waiting for the device.

        Add the summed loss and the number of correct clips of this rank to ``sums``.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        parts = self.recipe.micro_batches
        for part in range(parts):
            crops, labels = next(batches)
            labels = labels.to(self.device, non_blocking=True)
            # Gradients are summed over the parts here, and over the ranks once, at the last part.
            waits = part < parts - 1 and isinstance(self._parallel, DistributedDataParallel)
            with self._parallel.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]
                logits = self._forward(self._parallel, crops, bf16=self._bf16).logits
                labels = labels.repeat_interleave(answers := len(logits) // len(labels))  # one a patch
                loss = loss_of(logits, labels) / answers
                # DDP averages over the ranks: this factor makes it the mean over the clips of the batch.
                (loss * (world_size() / self.recipe.batch_size)).backward()
            right = (logits.argmax(1) == labels).sum() / answers
            sums += torch.stack([loss.detach(), right]).double()
        length = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm or float("inf"))
        self._optimizer.step()
        if self._mean is not None:
            self._mean.update()
        return length

    def _require_finite(self, length: Tensor) -> None:
        if not torch.isfinite(length):  # equal on all ranks, which share the gradients by now
            raise UserError(
                f"the loss is no longer a number in epoch {len(self.history) + 1}; reduce "
                "--recipe.learning-rate. The files of earlier epochs are kept"
            )

    def _forward(self, model: nn.Module, crops_u8: Tensor, *, bf16: bool) -> DmaStaOutput:
        x_BTCHW = normalize(crops_u8.to(self.device, non_blocking=True), *self.normalization)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            output: DmaStaOutput = model(x_BTCHW)
        return output

    def logits(self, videos: Videos) -> Tensor:
        """Return the logits of each video, ``(N, K)``, as ``score`` does; see :meth:`outputs`."""
        return self.outputs(videos, self.kept)[0]

    def best_outputs(self, videos: Videos, *, outliers: bool = False) -> tuple[Tensor, Tensor]:
        """Return :meth:`outputs` of the best epoch."""
        model = copy.deepcopy(self.kept)
        model.load_state_dict(self.best or {})
        return self.outputs(videos, model, outliers=outliers)

    @torch.inference_mode()
    def outputs(self, videos: Videos, model: ClipNetwork, *, outliers: bool = False) -> tuple[Tensor, Tensor]:
        """Return the mean logits ``(N, K)`` and features ``(N, C)`` over the clips of each video.

        With ``outliers``, the clips are outliers made of those of the videos. Every rank returns all of
        them. One rank computes each video, in float32.
        """
        numbers = list(range(rank(), len(videos), world_size()))
        mine = [numbers[at : at + _VALIDATED_AT_ONCE] for at in range(0, len(numbers), _VALIDATED_AT_ONCE)]
        whole = WholeVideos(videos=videos, num_frames=self.model.config.num_frames)
        dataset = Outliers(originals=whole) if outliers else whole
        model.eval()
        if world_size() > 1:
            for buffer in model.buffers():  # batch statistics differ by rank, and rank 0 saves its own
                dist.broadcast(buffer, src=0)
        found: dict[int, tuple[Tensor, ...]] = {}
        for clips_BC, which in self._reader.read(dataset, mine):
            output = self._forward(model, clips_BC.flatten(0, 1), bf16=False)
            both = (output.logits.cpu(), output.features.float().cpu())
            means = [each.reshape(len(which), -1, each.shape[1]).mean(dim=1) for each in both]
            found |= dict(zip(which.tolist(), zip(*means, strict=True), strict=True))
        parts: list[dict[int, tuple[Tensor, ...]]] = [found]
        if world_size() > 1:
            parts = [{} for _ in range(world_size())]
            dist.all_gather_object(parts, found)
        merged = {number: row for part in parts for number, row in part.items()}
        logits, features = zip(*(merged[number] for number in range(len(videos))), strict=True)
        return torch.stack(logits), torch.stack(features)

    def to_bytes(self) -> bytes:
        """Return the state from which training continues with any number of ranks."""
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
        """Continue from the result of :meth:`to_bytes` for the same model and recipe."""
        state = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        if self._mean is not None:
            self._mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.history = [EpochResult(**result) for result in state["history"]]


def best_of(history: Sequence[EpochResult]) -> EpochResult:
    """Return the epoch with the highest accuracy on validation, and among equals the lowest loss."""
    return max(history, key=lambda one: (one.val_accuracy, -one.val_loss))


def _summed(values: Tensor) -> Tensor:
    """Return the sum over the ranks."""
    if world_size() > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        values = values.to(device)
        dist.all_reduce(values)
    return values.cpu()
