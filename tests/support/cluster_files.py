"""Reads the files in cluster/ for tests: documents, shell commands and images in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster"
README = CLUSTER / "README.md"


class _StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML would keep the last."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"duplicate keys {twice}{node.start_mark}")
    loader.flatten_mapping(node)
    pairs = ((loader.construct_object(key, deep=True), value) for key, value in node.value)
    return {key: loader.construct_object(value, deep=True) for key, value in pairs}


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the YAML documents of a file."""
    return list(yaml.load_all(path.read_text(), Loader=_StrictLoader))


def yaml_files() -> list[Path]:
    return sorted(CLUSTER.rglob("*.yaml"))


def shell_files() -> list[Path]:
    return sorted([*CLUSTER.rglob("*.sh"), *CLUSTER.rglob("*.sbatch")])


def values(content: Any, key: str) -> Iterator[Any]:
    """Yield the values of ``key`` at any depth."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from values(value, key)


def fences(path: Path = README) -> list[str]:
    """Return the bash code in a Markdown file."""
    return bash(path.read_text())


def documented_jobs() -> list[str]:
    """Return the fences of cluster/README.md that take a dataset through all jobs, in order."""
    _, _, rest = README.read_text().partition("<!-- ray_job: the fences")
    return bash(rest.partition("<!-- ray_job: end -->")[0])


def bash(markdown: str) -> list[str]:
    """Return the bash code in Markdown."""
    return re.findall(r"^```bash\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Return the words of each simple command of shell code, without redirections of output."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
        lexer.whitespace_split = True
        found.append([])
        for word in lexer:
            if set(word) <= set("();|&"):
                found.append([])
            else:
                found[-1].append(word)
    found = [words[: words.index(">")] if ">" in words else words for words in found]
    return [words for words in found if words]


def after(words: list[str], *name: str) -> list[str] | None:
    """Return the words after ``name`` in a command, ``None`` if it lacks them; the first may have a path."""
    for start in range(len(words) - len(name) + 1):
        first, *rest = words[start : start + len(name)]
        if [first.rpartition("/")[2], *rest] == list(name):
            return words[start + len(name) :]
    return None


def shell_code() -> dict[str, str]:
    """Return all shell code in cluster/ by the name of its place."""
    code = {f"README fence {number}": text for number, text in enumerate(fences(), 1)}
    code |= {path.name: path.read_text() for path in shell_files()}
    for path in (CLUSTER / "ray_up").glob("*.yaml"):
        for config in documents(path):
            for part in ("head", "worker"):
                code[f"{path.name}, {part}"] = "\n".join(config[f"{part}_start_ray_commands"])
    return code
