"""Imports point one way; this test keeps it so."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dfdm_ray"

# Lowest layer first. A module may import from its own layer's package and from layers below.
LAYERS = (
    ("labels", "errors", "terminal", "memory"),
    ("config", "schemas", "retry"),
    ("object_store",),
    ("storage", "images", "clip_spec", "isolation", "tool_configs"),
    ("listing", "crops_dataset"),
    ("video", "models", "manifest", "assets", "generators"),
    ("faces",),
    ("clips", "swapping", "training"),
    ("png_tree",),
    ("clip_work",),
    ("stages", "testing"),
    ("cluster", "reports", "curves", "evaluation"),
    ("pipelines",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# What a part may never import, so that it runs where these are missing or heavy.
FORBIDDEN = {
    "video": {"ray", "torch", "torchvision"},
    "models": {"ray", "av", "pyarrow"},
    "faces": {"ray", "av", "pyarrow"},
    "generators": {"ray", "av", "pyarrow"},
    "manifest": {"ray", "torch", "av"},
    "clips": {"ray", "torch"},
    "clip_work": {"ray", "torch"},
    "isolation": {"ray", "torch", "av", "pyarrow"},
    "training": {"ray"},
    "crops_dataset": {"ray", "torch", "av"},
    "png_tree": {"ray", "torch"},
    "evaluation": {"ray", "av"},
    "images": {"ray", "torch", "av", "pyarrow"},
    "labels": {"ray", "torch", "av", "pyarrow", "numpy"},
    "errors": {"ray", "torch", "av", "pyarrow", "numpy"},
}
RAY_USERS = {
    "stages/base.py",
    "cluster.py",
    "pipelines/run.py",
    "pipelines/observe.py",
    "pipelines/generate.py",
    "pipelines/train.py",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    """Return the full names a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_part_and_lower_layers(path: Path) -> None:
    own = part_of(path)
    assert own in RANK, f"{own} has no layer yet"
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("dfdm_ray.")}
    higher = {part for part in parts if part != own and RANK[part] >= RANK[own]}
    assert not higher


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_no_package_forbidden_to_its_part(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    allowed_here = {"torch"} if path.name == "retinaface_resnet.py" else set()
    assert not (roots & FORBIDDEN.get(part_of(path), set())) - allowed_here


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_pipeline_and_the_base_of_stages_know_ray(path: Path) -> None:
    knows_ray = "ray" in {name.split(".")[0] for name in imported(path)}
    assert not knows_ray or str(path.relative_to(PACKAGE)) in RAY_USERS


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_over_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
