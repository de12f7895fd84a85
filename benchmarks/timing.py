"""What the benchmarks of training steps share: a clock that waits for the device, and the machine's rate."""

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def seconds(work: Callable[[], None], device: str) -> float:
    """Return the wall time of ``work``, until the device has done it."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matmul_gflops(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Return the rate of one large matrix product, GFLOP a second."""
    side = _MATMUL_SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.mm(left, right)
    return 2 * side**3 / 1e9 / seconds(lambda: torch.mm(left, right), device)


def machine(device: str) -> str:
    """Return what the figures are of."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return f"{name}, {platform.platform()}, torch {torch.__version__}"


def save(name: str, rows: Sequence[Mapping[str, object]], *, device: str, repeats: int) -> None:
    """Write the figures as JSON to ``build/bench/``."""
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    content = {"command": sys.argv, "machine": machine(device), "repeats": repeats, "rows": rows}
    (out / f"{name}_{device}.json").write_text(json.dumps(content, indent=2))
