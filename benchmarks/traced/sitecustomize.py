"""Run decoding processes under strace; Python imports this file if its folder is in ``PYTHONPATH``.

The folder ``traces`` beside this file gets one file per process with its system calls on files and network.
The benchmark works with a copy: decoding processes get no variable that could name another folder.
"""

import os
import sys

if "dfdm_ray.clips.serve" in sys.orig_argv and "TRACED" not in os.environ:
    os.environ["TRACED"] = "1"  # the interpreter under strace must not start strace again
    log = os.path.join(os.path.dirname(__file__), "traces", f"{os.getpid()}.txt")
    # -D: the traced process keeps its pid, by which its parent watches its memory and kills it.
    options = ["-D", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=%file,%network", "-o", log]
    os.execvp("strace", ["strace", *options, sys.executable, *sys.orig_argv[1:]])
