"""Configuration of ablations: what each variant leaves out or changes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from dfdm_ray.config import at_least
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, TrainConfig, TrainOptions, paper_like
from dfdm_ray.labels import Baseline

_Attentions = Literal["default", "no-spatial", "no-temporal", "no-attention"]
_Frames = Literal["frames-1", "frames-5", "frames-10"]
Variant = Literal[_Attentions, _Frames, Baseline, "no-high-pass", "no-augmentation", "paper"]
"""default: as configured; no-spatial, no-temporal, no-attention (neither): a plain trunk averaged over
frames; frames-T: clips of T frames; fame, patches: other networks after their descriptions; compact:
a small one that keeps the grid of the generators; paper: the authors' recipe and network."""

_NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "no-spatial": {"spatial_attention": False},
    "no-temporal": {"temporal_attention": False},
    "no-attention": {"spatial_attention": False, "temporal_attention": False},
    "frames-1": {"frames": 1},
    "frames-5": {"frames": 5},
    "frames-10": {"frames": 10},
    "fame": {"backbone": "fame", "high_pass": False},
    "patches": {"backbone": "patches"},
    "compact": {"backbone": "compact"},
    "no-high-pass": {"high_pass": False},
    "paper": {"high_pass": False, "per_frame_batch_norm": True, "open_gates": False},
}


@dataclass(frozen=True, kw_only=True)
class AblateConfig(TrainOptions):
    """Train variants of DMA-STA on the same crops with several seeds, and compare them on the test split."""

    out: str
    """Output folder: a training and its predictions for each variant and seed, ablation.md, ablation.json,
    ablation.png, evaluation/. The same command continues it; variants and seeds can be added."""
    variants: tuple[Variant, ...] = get_args(_Attentions)
    """Variants to compare. frames-T needs crops with clips of at least T frames. paper starts from random
    weights, unlike the authors, unless --network.imagenet FILE is given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights, order and augmentation; each variant is trained once per seed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, seeds=min(self.seeds, default=None))
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
    shared = {one.name: getattr(config, one.name) for one in fields(TrainOptions)}
    shared["network"] = replace(config.network, **_NETWORKS.get(variant, {}))
    if variant == "paper":
        shared["recipe"] = paper_like(config.recipe)
    if variant == "no-augmentation":
        shared["recipe"] = replace(config.recipe, augment=NO_AUGMENTATION)
    return TrainConfig(**shared, out=out, seed=seed)
