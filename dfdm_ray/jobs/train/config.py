"""Frozen configuration of training, and its two presets; see :mod:`dfdm_ray.config`."""

from dataclasses import dataclass, field, replace
from typing import Literal

from dfdm_ray.config import at_least
from dfdm_ray.errors import UserError
from dfdm_ray.labels import Backbone


@dataclass(frozen=True, kw_only=True)
class ClipAugmentConfig:
    """How training clips are changed, so that neither codec nor size nor colour is the cue. 0: never.

    Every change is drawn once for a clip and is the same in all its frames. What blurs comes seldom: it
    takes away the fine traces that tell generators apart, and short trainings then learn nothing from a clip.
    """

    flip: float = 0.5
    """How often a clip is mirrored."""
    h264: float = 0.2
    """How often a clip is encoded once more with H.264 at a random crf."""
    h264_crf: tuple[int, int] = (10, 28)
    """Lowest and highest of that crf."""
    jpeg: float = 0.05
    """How often the frames are encoded as JPEG at a random quality of 60 to 95."""
    resize: float = 0.05
    """How often a clip is shrunk to 70 to 95 % and enlarged again."""
    blur: float = 0.05
    """How often a clip is blurred, with a standard deviation of up to 0.8 pixels."""
    colour: float = 0.5
    """How often brightness, contrast and saturation change, each by up to 20 %."""
    shift: float = 0.5
    """How often the crop is moved by up to 6 % of its side, in whole pixels."""

    def __post_init__(self) -> None:
        for name in ("flip", "h264", "jpeg", "resize", "blur", "colour", "shift"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise UserError(f"--recipe.augment.{name} must lie between 0 and 1, got {value:g}")
        low, high = self.h264_crf
        if not 0 <= low <= high <= 51:
            raise UserError(f"--recipe.augment.h264-crf must be two numbers within 0..51, got {low} {high}")


NO_AUGMENTATION = ClipAugmentConfig(flip=0, h264=0, jpeg=0, resize=0, blur=0, colour=0, shift=0)
"""Clips as they are."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the network is trained. The defaults are ours; :func:`paper` is the authors'."""

    epochs: int = 30
    """Passes over the training videos; each takes one clip of every video."""
    batch_size: int = 20
    """Clips in an optimiser step, over all workers."""
    micro_batches: int = 1
    """A worker takes its share of the batch in so many parts: for cards with little memory."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw trains in a third of the epochs from random weights; sgd is the paper's."""
    learning_rate: float = 1e-3
    """Highest learning rate."""
    momentum: float = 0.9
    """Of sgd."""
    weight_decay: float = 0.02
    """Of weights; gains and biases go without under adamw."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    """cosine: warmed up over the first 5 % of the steps, then lowered to nothing, so that the last epochs
    settle; step: a tenth from each of --recipe.step-epochs on."""
    step_epochs: tuple[int, ...] = ()
    """For the schedule step, counted from 1."""
    reset_momentum: bool = False
    """Forget the optimiser's state at every epoch, as the authors' code does."""
    label_smoothing: float = 0.05
    """Keeps the logits of clips that are long since known from growing; better calibrated."""
    class_weights: bool = True
    """Weigh classes by the inverse of their number of videos: no change where they are equal."""
    clip_norm: float = 5.0
    """Longest gradient; one bad batch does not undo an epoch. 0: no limit."""
    ema_decay: float = 0.98
    """What is kept is a running mean of the weights with this decay a step. 0: the last weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the trunk; auto: bf16 on a GPU, else fp32. bf16 is also faster on CPUs that compute in
    it (avx512_bf16 or amx_bf16 in lscpu), and slower on others."""
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
    """Return what the authors' ``main.py`` does (``shanface33/Deepfake_Model_Attribution``).

    SGD with momentum 0.9, weight decay 5e-4 and batches of 20, mirrored clips only. The configured rate of
    0.01 never acts: the one parameter group takes a tenth of it, 1e-3, and from epoch 40 on 1e-4, the
    floor. The optimiser is made anew at every epoch, which drops its momentum. Not taken over: the best epoch
    is chosen on validation videos, where the authors choose it on the test set; and the weights begin at
    random, where the authors begin with ImageNet's ResNet-50, unless ``--network.imagenet`` names them.
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
    """The shape of the network, as far as the crops dataset leaves it open."""

    backbone: Backbone = "resnet50"
    """Trunk; resnet10 is what two CPU cores can train in minutes."""
    high_pass: bool = True
    """Show the network only what is finer than some pixels: the traces of generators without the people."""
    frames: int | None = None
    """Frames in a clip (T). Of the dataset's, training draws any in order; validation and `dfdm-ray score`
    take them spread evenly. Default: all of them."""
    spatial_attention: bool = True
    """Gate each residual branch by place."""
    temporal_attention: bool = True
    """Weigh frames; no: a plain mean over them."""
    open_gates: bool = True
    """Begin with gates that change nothing and learn them from there; no: at random, as the authors' do."""
    per_frame_batch_norm: bool = False
    """Take batch statistics frame by frame, as the authors' loop over frames does."""
    imagenet: str | None = None
    """torchvision's ImageNet weights of the backbone, a file (state dict) to begin with. Default: random
    weights."""

    def __post_init__(self) -> None:
        at_least(1, **{"network.frames": self.frames})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train DMA-STA on a crops dataset with Ray Train (DDP)."""

    crops: str
    """Crops dataset made by `dfdm-ray preprocess`, of a manifest with the splits train and val."""
    out: str
    """Output folder: dma_sta.pt for `dfdm-ray score`, history.csv, curves.png, run.json, state.pt. Workers
    write there too: on a cluster a shared folder or s3://. Running again continues from the last epoch."""
    recipe: Recipe = field(default_factory=Recipe)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    crf: tuple[int, ...] = ()
    """Train and validate on these qualities only. Default: all."""
    workers: int | None = None
    """Training workers, one a GPU. Default: as many as the cluster has GPUs, else up to two CPU workers."""
    loaders: int = 0
    """Processes of each worker that read and augment clips; 0: the worker does it. A GPU wants several."""
    seed: int = 0
    """Of weights, order and augmentation."""
    overwrite: bool = False
    """Delete what an earlier run left in --out and start anew."""
    ray_address: str | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else a Ray started here for this run."""

    def __post_init__(self) -> None:
        at_least(1, workers=self.workers)
        at_least(0, loaders=self.loaders, seed=self.seed)


def paper_config(*, crops: str, out: str) -> TrainConfig:
    """Return the preset ``paper``: the authors' recipe and network, see :func:`paper`."""
    network = NetworkConfig(per_frame_batch_norm=True, high_pass=False, open_gates=False)
    return TrainConfig(crops=crops, out=out, recipe=paper(), network=network)


def random_start(config: TrainConfig) -> str | None:
    """Return a line to show if this is the authors' recipe but, unlike theirs, begins with random weights."""
    if config.network.imagenet is not None or config.recipe != paper_like(config.recipe):
        return None
    return (
        "the weights begin at random, where the authors begin with ImageNet's ResNet-50: give torchvision's "
        "state dict with --network.imagenet FILE to do so"
    )
