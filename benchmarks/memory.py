"""Memory of a process and its children over time."""

import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_FIELD = re.compile(rb"^(Pss_Anon|Pss_File|Pss_Shmem):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at one moment. Pages shared by several processes are counted once (proportional set size)."""

    after_s: float
    processes: int
    """All memory but the object store."""
    object_store: int
    """Pages of the object store that were touched; Ray keeps them until it ends."""


class Watch:
    """Sample the memory of ``process`` and its children every ``every_s`` seconds while the block runs."""

    def __init__(self, process: psutil.Process, *, every_s: float = 2.0) -> None:
        self.samples: list[Memory] = []
        self._process, self._every_s = process, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak(self) -> Memory:
        """Maximum of each figure, not necessarily at the same moment."""
        return Memory(
            after_s=max((one.after_s for one in self.samples), default=0.0),
            processes=max((one.processes for one in self.samples), default=0),
            object_store=max((one.object_store for one in self.samples), default=0),
        )

    def _sample(self) -> None:
        started = time.monotonic()
        while not self._over.wait(self._every_s):
            try:
                family = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            sizes = [size for one in family if (size := _sizes(one.pid))]
            own, store = (sum(part) for part in zip(*sizes, strict=True)) if sizes else (0, 0)
            self.samples.append(Memory(after_s=time.monotonic() - started, processes=own, object_store=store))


def _sizes(pid: int) -> tuple[int, int] | None:
    """Return the private and the shared-memory bytes of a process, or ``None`` if it has ended."""
    try:
        content = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return None
    found = {name: int(size) * 1024 for name, size in _FIELD.findall(content)}
    return found.get(b"Pss_Anon", 0) + found.get(b"Pss_File", 0), found.get(b"Pss_Shmem", 0)
