"""Configuration of training and its two presets."""

from dataclasses import dataclass, field, replace
from typing import Literal

from dfdm_ray.config import at_least
from dfdm_ray.errors import UserError
from dfdm_ray.labels import Backbone, Baseline, merged_classes


@dataclass(frozen=True, kw_only=True)
class ClipAugmentConfig:
    """Random changes to training clips, so that codec, size and colour do not reveal the class.

    Each change is drawn once per clip and applied to all its frames. Changes that blur are rare: they remove
    the fine traces of the generators, and a short training then learns nothing from the clip.
    """

    flip: float = 0.5
    """Probability that a clip is mirrored."""
    h264: float = 0.2
    """Probability that a clip is encoded again with H.264 at a random crf."""
    h264_crf: tuple[int, int] = (10, 28)
    """Lowest and highest crf of that encoding."""
    jpeg: float = 0.05
    """Probability that the frames are encoded as JPEG at a random quality from 60 to 95."""
    resize: float = 0.05
    """Probability that a clip is shrunk to 70 to 95 % and enlarged again."""
    blur: float = 0.05
    """Probability that a clip is blurred; the standard deviation is 0.2 to 0.8 pixels."""
    colour: float = 0.5
    """Probability that brightness, contrast and saturation change, each by up to 20 %."""
    shift: float = 0.5
    """Probability that the crop is moved by up to 6 % of its side, in whole pixels."""

    def __post_init__(self) -> None:
        for name in ("flip", "h264", "jpeg", "resize", "blur", "colour", "shift"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise UserError(f"--recipe.augment.{name} must be between 0 and 1, got {value:g}")
        low, high = self.h264_crf
        if not 0 <= low <= high <= 51:
            raise UserError(f"--recipe.augment.h264-crf must be two numbers within 0..51, got {low} {high}")


NO_AUGMENTATION = ClipAugmentConfig(flip=0, h264=0, jpeg=0, resize=0, blur=0, colour=0, shift=0)
"""Clips are used unchanged."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimisation of the network. The defaults are this project's; `train-paper` uses the authors'."""

    epochs: int = 30
    """Passes over the training videos; a pass uses one clip of every video."""
    batch_size: int = 20
    """Clips per optimiser step, over all workers."""
    micro_batches: int = 1
    """Parts in which a worker processes its share of a batch; more parts need less GPU memory."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimiser. From random weights, adamw needs a third of the epochs; the paper uses sgd."""
    learning_rate: float = 1e-3
    """Highest learning rate."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.02
    """Weight decay. adamw does not apply it to gains and biases."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    """Schedule of the learning rate. cosine: rise over the first 5 % of the steps, then fall to zero; step:
    divide by ten at each of --recipe.step-epochs."""
    step_epochs: tuple[int, ...] = ()
    """Epochs at which the schedule step divides the rate, counted from 1."""
    reset_momentum: bool = False
    """Reset the state of the optimiser at every epoch, as the authors' code does."""
    label_smoothing: float = 0.05
    """Label smoothing; it limits the logits of clips that are already learned and improves calibration."""
    class_weights: bool = True
    """Weight each class by the inverse of its number of videos; equal numbers give equal weights."""
    clip_norm: float = 5.0
    """Maximum norm of the gradient, so that one bad batch does not undo an epoch. 0: no limit."""
    ema_decay: float = 0.98
    """Decay per step of the running mean of the weights, which is validated and saved. 0: use the last
    weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the trunk. auto: bf16 on GPUs and on CPUs with instructions for it (avx512_bf16 or
    amx_bf16 in lscpu), else fp32."""
    augment: ClipAugmentConfig = field(default_factory=ClipAugmentConfig)

    def __post_init__(self) -> None:
        counts = {"epochs": self.epochs, "batch_size": self.batch_size, "micro_batches": self.micro_batches}
        at_least(1, **{f"recipe.{name}": value for name, value in counts.items()})
        limits = {"weight_decay": self.weight_decay, "clip_norm": self.clip_norm, "momentum": self.momentum}
        at_least(0, **{f"recipe.{name}": value for name, value in limits.items()})
        if not self.learning_rate > 0:
            raise UserError(f"--recipe.learning-rate must be above 0, got {self.learning_rate:g}")
        for name in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UserError(
                    f"--recipe.{flag} must be at least 0 and below 1, got {getattr(self, name):g}"
                )


def paper() -> Recipe:
    """Return the recipe of the authors' ``main.py`` (``shanface33/Deepfake_Model_Attribution``).

    It is SGD with momentum 0.9, weight decay 5e-4 and batches of 20; mirroring is the only augmentation. The
    configured rate of 0.01 has no effect: the one parameter group uses a tenth of it, 1e-3, and from epoch 40
    the minimum, 1e-4. A new optimiser at every epoch drops the momentum. Two things differ from their code:
    the best epoch is chosen on the validation videos, not on the test set, and the weights start at random,
    not from ImageNet's ResNet-50, unless ``--network.imagenet`` names a file.
    """
    return Recipe(
        epochs=300,
        optimizer="sgd",
        learning_rate=1e-3,
        weight_decay=5e-4,
        schedule="step",
        step_epochs=(40,),
        reset_momentum=True,
        label_smoothing=0.0,
        class_weights=False,
        clip_norm=0.0,
        ema_decay=0.0,
        precision="fp32",
        augment=ClipAugmentConfig(h264=0, jpeg=0, resize=0, blur=0, colour=0, shift=0),
    )


def paper_like(recipe: Recipe) -> Recipe:
    """Return :func:`paper` with the epochs, batch size and arithmetic of ``recipe``."""
    kept = {name: getattr(recipe, name) for name in ("epochs", "batch_size", "precision")}
    return replace(paper(), **kept)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the network, as far as the crops dataset does not determine it."""

    backbone: Backbone | Baseline = "resnet50"
    """Trunk of the network. Two CPU cores train resnet10 in minutes. compact takes a seventh of its work;
    it is for crops on the grid of the generators (--crop.align generator --crop.size 176). fame and patches
    are for comparison. These three have no attention of DMA-STA."""
    high_pass: bool = True
    """Remove structures larger than a few pixels from the input, so that the network sees the traces of the
    generators and not the people."""
    frames: int | None = None
    """Frames per clip (T), at most those stored in the dataset. Training picks them at random and keeps their
    order; validation and `dfdm-ray score` space them evenly. Default: all stored frames."""
    spatial_attention: bool = True
    """Gate each residual branch by position."""
    temporal_attention: bool = True
    """Weight the frames of a clip; no: use their mean."""
    open_gates: bool = True
    """Initialise the attention gates so that they change nothing; no: at random, as the authors do."""
    per_frame_batch_norm: bool = False
    """Compute batch statistics frame by frame, as the authors' loop over frames does."""
    imagenet: str | None = None
    """File with torchvision's ImageNet weights of the backbone (state dict) to start from. Default: random
    weights."""

    def __post_init__(self) -> None:
        at_least(1, **{"network.frames": self.frames})


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of every job that trains."""

    crops: str
    """Crops dataset from `dfdm-ray preprocess`; its manifest needs the splits train and val, for ablate also
    test."""
    recipe: Recipe = field(default_factory=Recipe)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    crf: tuple[int, ...] = ()
    """Qualities (crf) to train and validate on. Default: all."""
    classes: tuple[str, ...] = ()
    """Generators to tell apart, `real` among them; videos of others are left out. Default: all that the
    split train contains."""
    merge: tuple[str, ...] = ()
    """Generators to treat as one class, such as 64px=faceswap,lightweight,iae."""
    workers: int | None = None
    """Training workers, one per GPU. Default: one for each GPU of the cluster, or up to two CPU workers."""
    loaders: int | None = None
    """Processes per worker that read and augment clips. 0: the worker does it. Default: with GPUs the CPUs
    beside each GPU, up to 16; without, 0."""
    ray_address: str | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else a Ray started for this run."""

    def __post_init__(self) -> None:
        at_least(1, workers=self.workers)
        at_least(0, loaders=self.loaders)
        merged_classes(self.merge)
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            listed = " ".join(self.classes)
            raise UserError(f"--classes must list two or more different generators, got {listed}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainOptions):
    """Train DMA-STA on a crops dataset with Ray Train (DDP)."""

    out: str
    """Output folder for dma_sta.pt (the model for `dfdm-ray score`), history.csv, curves.png, run.json and
    state.pt. Workers write to it: on a cluster, use a shared folder or s3://. The same command run again
    continues from the last epoch."""
    seed: int = 0
    """Seed of the weights, the order of videos and augmentation."""
    overwrite: bool = False
    """Delete the training in --out and start again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, seed=self.seed)


def paper_config(*, crops: str, out: str) -> TrainConfig:
    """Return the preset ``paper``: the authors' network and :func:`paper`, their recipe."""
    network = NetworkConfig(per_frame_batch_norm=True, high_pass=False, open_gates=False)
    return TrainConfig(crops=crops, out=out, recipe=paper(), network=network)


def random_start(config: TrainConfig) -> str | None:
    """Return a notice if this is the authors' recipe without their ImageNet weights, else None."""
    if config.network.imagenet is not None or config.recipe != paper_like(config.recipe):
        return None
    return (
        "the weights start at random; the authors start from ImageNet's ResNet-50. To do the same, give "
        "torchvision's state dict with --network.imagenet FILE"
    )
