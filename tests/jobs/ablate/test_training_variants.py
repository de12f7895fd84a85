from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.ablate.config import AblateConfig, Variant, variant_config
from dfdm_ray.jobs.ablate.job import ablate
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, NetworkConfig, Recipe, paper_config, random_start

BASE = AblateConfig(
    crops="c",
    out="o",
    recipe=Recipe(epochs=7, batch_size=8, precision="bf16"),
    network=NetworkConfig(backbone="resnet10"),
)


def changed(variant: Variant) -> dict[str, Any]:
    """Return the fields of network and recipe in which a variant differs from the default."""
    plain, other = (variant_config(BASE, name, seed=3, out="x") for name in ("default", variant))
    assert (other.seed, other.out) == (3, "x")
    assert (other.recipe.epochs, other.recipe.batch_size, other.recipe.precision) == (7, 8, "bf16")
    assert other.network.backbone == "resnet10"
    return {
        name: value
        for part in ("network", "recipe")
        for name, value in vars(getattr(other, part)).items()
        if value != getattr(getattr(plain, part), name)
    }


@pytest.mark.parametrize(
    ("variant", "differs"),
    [
        ("default", {}),
        ("no-spatial", {"spatial_attention": False}),
        ("no-temporal", {"temporal_attention": False}),
        ("no-attention", {"spatial_attention": False, "temporal_attention": False}),
        ("frames-5", {"frames": 5}),
        ("no-high-pass", {"high_pass": False}),
        ("no-augmentation", {"augment": NO_AUGMENTATION}),
    ],
)
def test_a_variant_changes_what_it_says_and_nothing_else(variant: Variant, differs: dict[str, Any]) -> None:
    assert changed(variant) == differs


def test_the_papers_variant_is_its_recipe_on_the_same_trunk_and_as_many_epochs() -> None:
    differs = changed("paper")
    assert differs["optimizer"] == "sgd"
    assert not differs["high_pass"]
    assert differs["per_frame_batch_norm"]
    assert differs["augment"].flip == 0.5


def test_a_paper_training_is_known_by_its_recipe_however_long_and_on_whatever_card() -> None:
    authors = paper_config(crops="c", out="o")
    variant = variant_config(BASE, "paper", seed=0, out="x")
    told = [random_start(one) or "" for one in (authors, variant)]
    assert all("--network.imagenet" in line for line in told)
    given = replace(variant, network=replace(variant.network, imagenet="resnet50.pth"))
    ours = variant_config(BASE, "default", seed=0, out="x")
    assert [random_start(one) for one in (given, ours)] == [None, None]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"seeds": ()}, "--seeds must list at least one"),
        ({"seeds": (0, 0)}, "each only once"),
        ({"seeds": (-1,)}, "--seeds must be at least 0"),
        ({"variants": ("default", "default")}, "--variants must list"),
    ],
)
def test_what_cannot_be_compared_is_an_error(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        AblateConfig(crops="c", out="o", **values)


@pytest.mark.parametrize(
    ("each", "variants", "says"),
    [
        ({"train": 3, "val": 2}, ("default",), "has no videos in the split test"),
        (
            {"train": 6, "val": 3, "test": 4},
            ("default", "frames-5"),
            r"--network\.frames is 5, but the clips of .* have 2",
        ),
    ],
)
def test_what_cannot_be_compared_is_reported_before_anything_is_trained(
    tmp_path: Path, each: dict[str, int], variants: tuple[Variant, ...], says: str
) -> None:
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each=each)
    job = replace(BASE, crops=str(tmp_path / "crops"), out=str(tmp_path / "out"), variants=variants)
    with pytest.raises(UserError, match=says):
        ablate(job, Console(quiet=True))
    assert not (tmp_path / "out").exists()
