"""Run decoding processes under strace; Python imports this file if its folder is in ``PYTHONPATH``.

The folder ``TRACE_FOLDER`` gets one file per process with its system calls on files and network.
"""

import os
import sys

if "dfdm_ray.clips.isolation" in sys.orig_argv and "TRACE_FOLDER" in os.environ:
    folder = os.environ.pop("TRACE_FOLDER")  # the interpreter under strace must not start strace again
    log = os.path.join(folder, f"{os.getpid()}.txt")
    # -D: the traced process keeps its pid, by which its parent watches its memory and kills it.
    options = ["-D", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=%file,%network", "-o", log]
    os.execvp("strace", ["strace", *options, sys.executable, *sys.orig_argv[1:]])
