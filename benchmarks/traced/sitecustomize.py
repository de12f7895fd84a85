"""Runs decoding processes under strace: Python imports this where its folder stands in ``PYTHONPATH``.

``TRACE_FOLDER`` gets a file for each process, with the system calls that name files or speak to a network.
"""

import os
import sys

if "dfdm_ray.clips.isolation" in sys.orig_argv and "TRACE_FOLDER" in os.environ:
    folder = os.environ.pop("TRACE_FOLDER")  # so that the next interpreter goes on
    log = os.path.join(folder, f"{os.getpid()}.txt")
    # -D: this process stays what it is to its parent, which watches its memory and kills it.
    options = ["-D", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=%file,%network", "-o", log]
    os.execvp("strace", ["strace", *options, sys.executable, *sys.orig_argv[1:]])
