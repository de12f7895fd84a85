"""Report of a benchmark: a table in the terminal and JSON in ``build/bench/``, with machine and command."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import rich.table
from rich.console import Console

OUT = Path("build/bench")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as plain data, for the terminal and for Markdown."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    remark: str = ""
    """Printed below the table."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the docstring of the benchmark."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, followed by half the range if there are several values."""
    half = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.median(values):.{digits}f}{half}"


def machine(device: str = "cpu") -> str:
    """Return the processor or GPU, CPUs, memory, system and torch version."""
    name = platform.machine()
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    return f"{name}, {os.cpu_count()} CPUs, {memory}, {platform.platform()}, torch {version('torch')}"


def show(table: Table, *, repeats: str = "", device: str = "cpu") -> None:
    """Print machine, command, ``repeats`` (for instance ``medians of 5``) and table."""
    console = Console(width=160)
    printed = rich.table.Table(*table.headings, title=table.title, title_justify="left")
    for row in table.rows:
        printed.add_row(*row)
    about = "; ".join(filter(None, (machine(device), " ".join(sys.argv), repeats)))
    console.print(about, highlight=False, markup=False, soft_wrap=True)
    console.print(printed, *filter(None, [table.remark]))


def save(name: str, *, device: str = "cpu", **content: Any) -> None:
    """Write ``content``, the command and the machine to ``build/bench/<name>.json``."""
    OUT.mkdir(parents=True, exist_ok=True)
    content = {"command": sys.argv, "machine": machine(device), **content}
    (OUT / f"{name}.json").write_text(json.dumps(content, indent=2))
