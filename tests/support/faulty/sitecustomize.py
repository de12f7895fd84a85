"""Faults on purpose in decoding processes: Python imports this where its folder stands in ``PYTHONPATH``.

The name of a video says what happens when it is opened: ``segfault_``, ``hang_``, ``swell_``, ``once_`` (a
segfault the first time only). A worker knows the name, and lends a file with that word instead of the video;
the decoding process does what the word says. ``FAULTS_LOG`` gets a line for each opening, which takes
``FAULTS_DELAY_S``.
"""

import os
import sys


def _lend_faults() -> None:
    import tempfile
    import time

    from dfdm_ray.io import lending, storage

    open_regular, log = lending.open_regular, os.environ["FAULTS_LOG"]
    delay_s = float(os.environ.get("FAULTS_DELAY_S", "0"))

    def faulty(uri: str) -> lending.OpenedFile:
        name = storage.split(uri)[1]
        with open(log, "a+", encoding="utf-8") as lines:  # O_APPEND: lines of several processes stay whole
            lines.seek(0)
            before = lines.read().splitlines()
            lines.write(f"{name}\n")
        time.sleep(delay_s)
        kind = name.partition("_")[0]
        kind = "segfault" if kind == "once" and name not in before else kind
        if kind not in ("segfault", "hang", "swell"):
            return open_regular(uri)
        word = tempfile.TemporaryFile()  # noqa: SIM115  # the lender closes it
        word.write(kind.encode())
        word.flush()
        return lending.OpenedFile(word, len(kind))

    lending.open_regular = faulty


def _obey() -> None:
    import ctypes

    from dfdm_ray.io import lending

    borrow = lending.BorrowedFiles.open

    def faulty(self: lending.BorrowedFiles, number: int = 0) -> lending.OpenedFile:
        file = borrow(self, number)
        if isinstance(getattr(file.stream, "raw", None), lending._Ranges):
            return file  # it would cost a request
        word = os.pread(file.stream.fileno(), 16, 0)
        if word == b"segfault":
            ctypes.string_at(0)
        elif word == b"hang":
            ctypes.PyDLL(None).sleep(10_000)  # holds the interpreter's lock, as a decoder may
        elif word == b"swell":
            held = bytearray()
            while True:
                held += bytes(64 << 20)
        return file

    lending.BorrowedFiles.open = faulty


if "dfdm_ray.clips.serve" in sys.orig_argv:
    _obey()
elif "FAULTS_LOG" in os.environ and any(part.endswith("default_worker.py") for part in sys.orig_argv):
    _lend_faults()
