"""Configuration of ablations: what each variant leaves out or changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from dfdm_ray.config import at_least
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, NetworkConfig, Recipe, TrainConfig, paper_like

Variant = Literal[
    "default",
    "no-spatial",
    "no-temporal",
    "no-attention",
    "frames-1",
    "frames-5",
    "frames-10",
    "no-high-pass",
    "no-augmentation",
    "paper",
]
"""default: as configured; no-spatial, no-temporal, no-attention (neither): a plain trunk averaged over
frames; frames-T: clips of T frames; paper: the authors' recipe and network."""

_ATTENTIONS: tuple[Variant, ...] = ("default", "no-spatial", "no-temporal", "no-attention")

_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "no-spatial": {"spatial_attention": False},
    "no-temporal": {"temporal_attention": False},
    "no-attention": {"spatial_attention": False, "temporal_attention": False},
    "frames-1": {"frames": 1},
    "frames-5": {"frames": 5},
    "frames-10": {"frames": 10},
    "no-high-pass": {"high_pass": False},
    "paper": {"high_pass": False, "per_frame_batch_norm": True, "open_gates": False},
}


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Train variants of DMA-STA on the same crops with several seeds, and compare them on the test split."""

    crops: str
    """Crops dataset from `dfdm-ray preprocess`; its manifest must have the splits train, val and test."""
    out: str
    """Output folder: a training and its predictions for each variant and seed, ablation.md, ablation.json,
    ablation.png, evaluation/. The same command continues it; variants and seeds can be added."""
    variants: tuple[Variant, ...] = _ATTENTIONS
    """Variants to compare. frames-T needs crops with clips of at least T frames. paper starts from random
    weights, unlike the authors, unless --network.imagenet FILE is given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights, order and augmentation; each variant is trained once per seed."""
    recipe: Recipe = field(default_factory=Recipe)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    crf: tuple[int, ...] = ()
    """Train only on these qualities; the test covers all. Default: all."""
    workers: int | None = None
    """Training workers, as in `dfdm-ray train`."""
    loaders: int = 0
    """Processes per worker that read and augment clips; 0: the worker does both itself."""
    ray_address: str | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else a Ray started here for this run."""

    def __post_init__(self) -> None:
        at_least(1, workers=self.workers)
        at_least(0, loaders=self.loaders, seeds=min(self.seeds, default=None))
        for name, values in (("variants", self.variants), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise UserError(f"--{name} must list at least one value, each only once")


def variant_config(config: AblateConfig, variant: Variant, *, seed: int, out: str) -> TrainConfig:
    """Return the training of ``variant``.

    ``paper`` keeps epochs, batch size, precision, trunk and frames of ``config``, so that every variant sees
    the same data equally often.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"no variant {variant!r}")
    recipe = config.recipe
    if variant == "paper":
        recipe = paper_like(recipe)
    if variant == "no-augmentation":
        recipe = replace(recipe, augment=NO_AUGMENTATION)
    return TrainConfig(
        crops=config.crops,
        out=out,
        recipe=recipe,
        network=replace(config.network, **_NETWORKS.get(variant, {})),
        crf=config.crf,
        workers=config.workers,
        loaders=config.loaders,
        seed=seed,
        ray_address=config.ray_address,
    )
