"""Give up what a decoder does not need, for the rest of the process: see SECURITY.md.

::

    no_new_privs -> limits -> capabilities -> landlock -> seccomp

A layer that the system lacks is left out; the others hold.
"""

import ctypes
import json
import math
import os
import resource
import struct
import subprocess
import sys
import sysconfig
from contextlib import suppress

from dfdm_ray.clips import landlock, seccomp

LAYERS = ("no_new_privs", "limits", "capabilities", "landlock", "seccomp")
_MEMORY_TIMES = 4
"""Address space that may be added, in multiples of the resident memory allowed: libraries reserve much."""
_FOUND_S = 20.0
_SET_NO_NEW_PRIVS = 38  # PR_SET_NO_NEW_PRIVS: linux/prctl.h
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: linux/capability.h


def close(*, memory_bytes: float = math.inf) -> dict[str, str]:
    """Close the sandbox around this process; for ever, and for all that it starts.

    Args:
        memory_bytes: Resident memory that the process may use, to which its address space is limited.

    Returns:
        For each of :data:`LAYERS`, ``""`` if it holds, else the reason why it does not.
    """
    with suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")  # glibc loads it when a thread is cancelled
    limits = _limit(memory_bytes)
    if not sys.platform.startswith("linux"):
        return {name: limits if name == "limits" else "not Linux" for name in LAYERS}
    held = {
        "no_new_privs": _failure(_libc().prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        "limits": limits,
        "capabilities": _drop_capabilities(),
        "landlock": landlock.restrict(loaded()),
    }
    return held | {"seccomp": seccomp.restrict(may_open=not held["landlock"])}


def loaded() -> set[str]:
    """Return the folders of the packages and the other files that Python has loaded, and its library."""
    found = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name:
            is_package = getattr(module, "__path__", None)
            found.add(os.path.dirname(file) if is_package else file)
    return found


def missing(layers: dict[str, str]) -> str:
    """Return a clause about the layers that do not hold, empty if all do."""
    return ", ".join(f"{name} ({reason})" for name, reason in layers.items() if reason)


def found() -> dict[str, str]:
    """Return what :func:`close` returns in a process like this one."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-P", "-m", __name__]
    try:
        printed = subprocess.check_output(command, env={**os.environ, "PYTHONPATH": path}, timeout=_FOUND_S)
        layers: dict[str, str] = json.loads(printed)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return dict.fromkeys(LAYERS, f"a trial failed: {error!s:.200}")
    return layers


def _limit(memory_bytes: float) -> str:
    limits = dict.fromkeys((resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC), 0)
    if memory_bytes < math.inf and os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm", encoding="ascii") as statm:
            in_use = int(statm.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = in_use + int(_MEMORY_TIMES * memory_bytes)
    try:
        for kind, most in limits.items():
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _drop_capabilities() -> str:
    """Give up the rights of root, which could otherwise undo the limits."""
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)
    return _failure(_libc().capset(header, none))


def _failure(result: int) -> str:
    return os.strerror(ctypes.get_errno()) if result else ""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    print(json.dumps(close()))  # for dfdm-ray doctor
