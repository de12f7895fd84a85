"""How a process keeps memory that it has freed."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory(most_bytes: int) -> None:
    """Let the main thread keep freed memory for the next large array, rather than give it back; Linux only.

    glibc maps large arrays anew each time and Linux clears every page of them: a fifth of the time of a
    network on the CPU, a twentieth of that of decoding and cropping. Other threads gain nothing, as their
    parts of glibc's memory hold no large array.

    Args:
        most_bytes: Largest array that is kept, and how much at the end of the heap.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc, not musl
            libc.mallopt(_M_MMAP_THRESHOLD, most_bytes)
            libc.mallopt(_M_TRIM_THRESHOLD, most_bytes)
