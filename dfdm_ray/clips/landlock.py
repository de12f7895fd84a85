"""No file system but what is named, and no TCP, for the rest of this process: the Landlock of Linux 5.13.

Sources: Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h of Linux.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on all architectures
_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of rights on files by version of the interface; 16 from version 5 on."""
_TCP, _TCP_SINCE = 0b11, 4  # LANDLOCK_ACCESS_NET_BIND_TCP, _CONNECT_TCP
_SCOPES, _SCOPES_SINCE = 0b11, 6  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, _SIGNAL: other processes


def version() -> int:
    """Return the version of the interface that the kernel offers, 0 if it offers none."""
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION))


def restrict(readable: Iterable[str]) -> str:
    """Allow this thread to read ``readable`` (files, and folders with what is below), and nothing else.

    Returns:
        ``""``, or why that is not possible. ``no_new_privs`` must be set.
    """
    if not (known := version()):
        return "the kernel offers none" if os.name == "posix" else "not Linux"
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        return f"the process has {threads} threads, and the kernel would restrict only one"
    handled = (1 << _FILE_RIGHTS.get(known, 16)) - 1
    network, scopes = _TCP if known >= _TCP_SINCE else 0, _SCOPES if known >= _SCOPES_SINCE else 0
    size = 24 if scopes else 16 if network else 8
    rules = _call(_CREATE_RULESET, struct.pack("=QQQ", handled, network, scopes), size, 0)
    if rules < 0:
        return os.strerror(ctypes.get_errno())
    try:
        for path in readable:
            with suppress(OSError):
                _allow(rules, path)
        if _call(_RESTRICT_SELF, rules, 0):
            return os.strerror(ctypes.get_errno())
    finally:
        os.close(rules)
    return ""


def _allow(rules: int, path: str) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None) -> int:
    values = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *values))
