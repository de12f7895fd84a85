"""Faults on purpose in decoding processes: Python imports this where its folder stands in ``PYTHONPATH``.

The name of a video says what happens when it is opened: ``segfault_``, ``hang_``, ``swell_``, ``once_`` (a
segfault the first time only). ``FAULTS_LOG`` gets a line for each opening, which takes ``FAULTS_DELAY_S``.
"""

import os
import sys


def _plan_faults() -> None:
    import ctypes
    import time
    from typing import BinaryIO

    from dfdm_ray.io import storage

    open_input, log = storage.open_input, os.environ["FAULTS_LOG"]
    delay_s = float(os.environ.get("FAULTS_DELAY_S", "0"))

    def faulty(uri: str) -> BinaryIO:
        name = storage.split(uri)[1]
        with open(log, "a+", encoding="utf-8") as lines:  # O_APPEND: lines of several processes stay whole
            lines.seek(0)
            before = lines.read().splitlines()
            lines.write(f"{name}\n")
        time.sleep(delay_s)
        kind = name.partition("_")[0]
        if kind == "segfault" or (kind == "once" and name not in before):
            ctypes.string_at(0)
        elif kind == "hang":
            ctypes.PyDLL(None).sleep(10_000)  # holds the interpreter's lock, as a decoder may
        elif kind == "swell":
            held = bytearray()
            while True:
                held += bytes(64 << 20)
        return open_input(uri)

    storage.open_input = faulty


if "dfdm_ray.clips.isolation" in sys.orig_argv and "FAULTS_LOG" in os.environ:
    _plan_faults()
