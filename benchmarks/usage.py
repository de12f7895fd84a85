"""CPU time of this driver and of the Ray that it started, by part."""

from collections import Counter
from collections.abc import Mapping

import psutil

PARTS = ("driver", "raylet", "gcs", "workers", "other")
"""``other``: agents and monitors of Ray."""


def cpu_seconds() -> dict[str, float]:
    """Return the CPU seconds so far of each of :data:`PARTS`, and of the whole ``machine``."""
    spent: Counter[str] = Counter(dict.fromkeys(PARTS, 0.0))
    driver = psutil.Process()
    for process in (driver, *driver.children(recursive=True)):
        try:
            times = process.cpu_times()
            part = "driver" if process == driver else _part(process.name(), process.cmdline())
        except psutil.Error:  # it ended meanwhile
            continue
        spent[part] += times.user + times.system
    times = psutil.cpu_times()
    return {**spent, "machine": sum(times) - times.idle - times.iowait - times.guest - times.guest_nice}


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return what was spent in between."""
    return {part: after[part] - before[part] for part in after}


def _part(name: str, command: list[str]) -> str:
    if name == "raylet":
        return "raylet"
    if name == "gcs_server":
        return "gcs"
    words = " ".join(command[:4])
    return "workers" if words.startswith("ray::") or "default_worker" in words else "other"
