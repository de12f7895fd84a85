"""Imports point one way; these tests hold the order."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "dfdm_ray"

# Lowest first. A module may import from its own part and from parts below.
ORDER = (
    {"errors"},
    {"labels"},
    {"schemas"},
    {"config"},
    {"io"},
    {"assets", "video", "models", "manifest"},
    {"faces"},
    {"generators"},
    {"clips"},
    {"engine"},
    {"jobs"},
    {"api"},
    {"cli"},
)
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
MADE_OF_JOBS = {"ablate", "demo", "report"}
"""Jobs that consist of other jobs."""

# What a part does without, so that it runs where these are missing or heavy.
WITHOUT = {
    "ray": lambda path: not path.startswith("engine/") and path not in RAY_JOBS,
    "torch": lambda path: path.startswith(
        ("io/", "video/", "clips/", "manifest/", "faces/", "jobs/evaluate/")
    ),
    "av": lambda path: path.startswith(("io/", "models/", "generators/", "manifest/", "engine/")),
    "pyarrow": lambda path: path.startswith(("models/", "generators/", "faces/")),
}
RAY_JOBS = {"jobs/train/job.py", "jobs/generate/job.py", "jobs/doctor/job.py", "api/dataset.py"}
EXCEPT = {("faces/retinaface_resnet.py", "torch")}


def modules() -> dict[str, Path]:
    found = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    return {str(path.relative_to(PACKAGE)): path for path in found}


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return the nodes of a module's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path: Path) -> set[str]:
    """Return the full names a module imports, wherever in it."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(path: Path) -> list[list[str]]:
    """Return the parts of each name of this package that a module imports."""
    return [name.split(".")[1:] for name in imported(path) if name.startswith("dfdm_ray.")]


def part_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def test_every_part_has_its_place_in_the_order() -> None:
    assert {part_of(path) for path in modules()} == RANK.keys()


def test_a_module_imports_only_from_its_own_part_and_from_parts_below() -> None:
    offenders = {
        f"{path} imports {'.'.join(name)}"
        for path, file in modules().items()
        for name in own_imports(file)
        if name[0] != part_of(path) and RANK[name[0]] >= RANK[part_of(path)]
    }
    assert not offenders


def test_no_job_imports_another_unless_it_is_made_of_jobs() -> None:
    offenders = {
        f"{path} imports {'.'.join(name)}"
        for path, file in modules().items()
        if path.startswith("jobs/") and (own := path.split("/")[1]) not in MADE_OF_JOBS
        for name in own_imports(file)
        if name[0] == "jobs" and len(name) > 1 and name[1] != own
    }
    assert not offenders


def test_no_part_imports_a_package_that_it_does_without() -> None:
    offenders = {
        f"{path} imports {package}"
        for path, file in modules().items()
        for package, does_without in WITHOUT.items()
        if does_without(path)
        and (path, package) not in EXCEPT
        and package in {name.split(".")[0] for name in imported(file)}
    }
    assert not offenders


def test_files_have_at_most_300_lines_and_functions_at_most_40() -> None:
    offenders = {path for path, file in modules().items() if len(file.read_text().splitlines()) > 300}
    for path, file in modules().items():
        for node in nodes(file):
            if isinstance(node, ast.FunctionDef) and lines_of(node) > 40:
                offenders.add(f"{path}:{node.name} has {lines_of(node)} lines")
    assert not offenders


def lines_of(function: ast.FunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - (body[0].lineno if body else function.lineno) + 1


def test_the_root_has_at_most_eight_files() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8
