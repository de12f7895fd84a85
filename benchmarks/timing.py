"""A clock that waits for the device, and the rate of a large matrix product."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def seconds(work: Callable[[], None], device: str) -> float:
    """Return the wall time of ``work``, including what it left running on the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matmul_gflops(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Return the rate of one large matrix product, GFLOP/s."""
    side = _MATMUL_SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    torch.mm(left, right)
    return 2 * side**3 / 1e9 / seconds(lambda: torch.mm(left, right), device)


def gflop_of(step: Callable[[], None]) -> float:
    """Run ``step`` once and return its convolutions and matrix products, GFLOP."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9
