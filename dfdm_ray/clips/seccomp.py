"""The system calls that a decoding process may use: a filter for x86_64 and aarch64.

Sources in Linux: Documentation/userspace-api/seccomp_filter.rst; seccomp.h, filter.h, bpf_common.h and
audit.h in include/uapi/linux; for the numbers arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from errno import EACCES, ENOSYS, EPERM

_ALLOWED = """
futex 202 98  read 0 63  lseek 8 62  write 1 64  mmap 9 222  munmap 11 215  madvise 28 233
mprotect 10 226  brk 12 214  mremap 25 216  clock_gettime 228 113  pread64 17 67  readv 19 65  close 3 57
fstat 5 80  dup 32 23  preadv 295 69  writev 20 66  poll 7 -  ppoll 271 73  select 23 -  pselect6 270 72
recvmsg 47 212  getrandom 318 278  clock_getres 229 114  clock_nanosleep 230 115  nanosleep 35 101
gettimeofday 96 169  time 201 -  times 100 153  rt_sigaction 13 134  rt_sigprocmask 14 135
rt_sigreturn 15 139  sigaltstack 131 132  restart_syscall 219 128  sched_yield 24 124
sched_getaffinity 204 123  getcpu 309 168  gettid 186 178  getpid 39 172  getppid 110 173  getuid 102 174
geteuid 107 175  getgid 104 176  getegid 108 177  uname 63 160  sysinfo 99 179  getrusage 98 165
getrlimit 97 163  set_robust_list 273 99  set_tid_address 218 96  rseq 334 293  membarrier 324 283
mincore 27 232  getcwd 79 17  exit 60 93  exit_group 231 94
"""
"""Memory, threads, time, and what is open already: names with their numbers on x86_64 and aarch64."""

_LOOKS = """
newfstatat 262 79  getdents64 217 61  stat 4 -  lstat 6 -  access 21 -  faccessat 269 48  readlink 89 -
readlinkat 267 78  statx 332 291
"""
"""Allowed where Landlock limits which files may be opened, so that Python can import parts of packages."""

_DEADLY = """
execve 59 221  execveat 322 281  fork 57 -  vfork 58 -  socket 41 198  connect 42 203  bind 49 200
listen 50 201  ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  kill 62 129
tkill 200 130  rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240  bpf 321 280  perf_event_open 298 241
userfaultfd 323 282  mount 165 40  umount2 166 39  pivot_root 155 41  chroot 161 51  unshare 272 97
setns 308 268  init_module 175 105  finit_module 313 273  kexec_load 246 104  add_key 248 217
request_key 249 218  keyctl 250 219
"""
"""Calls that no decoder makes, unless a file has taken it over: they end the process with SIGSYS."""

_CLONE_THREAD = 0x10000  # linux/sched.h
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_TMPFILE", 0)
_WRITES &= ~getattr(os, "O_DIRECTORY", 0)  # a part of O_TMPFILE
_FCNTL = (
    0,
    1,
    2,
    3,
    1030,
)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC: asm-generic/fcntl.h, linux/fcntl.h
_IOCTL = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS, TIOCGWINSZ, FIO*: asm/ioctls.h
_PRCTL = (15, 0x53564D41)  # PR_SET_NAME, PR_SET_VMA: linux/prctl.h; they name threads and memory

_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # SECCOMP_RET_*: linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, ...
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_NEWER = 424
"""First number that all architectures share. glibc does without these calls where the kernel lacks them
(clone3), and io_uring would go around the filter."""
_X32 = 0x40000000  # __X32_SYSCALL_BIT: asm/unistd.h

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables above, and AUDIT_ARCH_* of linux/audit.h."""

_SET_MODE_FILTER, _TSYNC, _SPEC_ALLOW = 1, 1, 4  # linux/seccomp.h
_SYSCALL_SECCOMP = {"x86_64": 317, "aarch64": 277}

Test = tuple[int, int, int]
"""The 32-bit word of the arguments (two for each), a mask, and the value that the masked word must have."""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Return the system calls of a table that ``machine`` has, with their numbers."""
    fields, column = table.split(), ARCHITECTURES[machine][0]
    return {name: int(n) for name, n in zip(fields[::3], fields[1 + column :: 3], strict=True) if n != "-"}


def program(machine: str, *, pid: int, may_open: bool) -> bytes:
    """Return the filter as an array of ``struct sock_filter``.

    Args:
        pid: This process, which may signal itself: that is how it aborts.
        may_open: Whether files may be opened for reading, because Landlock limits which.
    """
    conditions: dict[str, tuple[int, Sequence[Sequence[Test]]]] = {
        "clone 56 220": (_KILL, [[(0, _CLONE_THREAD, _CLONE_THREAD)]]),
        "tgkill 234 131": (_KILL, [[(0, 0xFFFFFFFF, pid)]]),
        "openat 257 56": (_ERRNO | EACCES, [[(4, _WRITES, 0)]] if may_open else []),
        "open 2 -": (_ERRNO | EACCES, [[(2, _WRITES, 0)]] if may_open else []),
        "fcntl 72 25": (_ERRNO | EPERM, [[(2, 0xFFFFFFFF, command)] for command in _FCNTL]),
        "ioctl 16 29": (_ERRNO | EPERM, [[(2, 0xFFFFFFFF, request)] for request in _IOCTL]),
        "prctl 157 167": (_ERRNO | EPERM, [[(0, 0xFFFFFFFF, option)] for option in _PRCTL]),
        # to read the limits of this process: no other pid, no new limit
        "prlimit64 302 261": (_ERRNO | EPERM, [[(word, 0xFFFFFFFF, 0) for word in (0, 4, 5)]]),
    }
    made = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, ARCHITECTURES[machine][1]), (_RETURN, 0, 0, _KILL)]
    made += [(_LOAD, 0, 0, _NR), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    made += [(_AT_LEAST, 0, 1, _NEWER), (_RETURN, 0, 0, _ERRNO | ENOSYS)]
    for number in numbers(_ALLOWED + (_LOOKS if may_open else ""), machine).values():
        made += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for call, (refusal, alternatives) in conditions.items():
        for number in numbers(call, machine).values():
            body = [*_checks(alternatives), (_RETURN, 0, 0, refusal)]
            made += [(_EQUAL, 0, len(body), number), *body]
    for number in numbers(_DEADLY, machine).values():
        made += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _KILL)]
    return b"".join(struct.pack("=HBBI", *one) for one in [*made, (_RETURN, 0, 0, _ERRNO | EPERM)])


def _checks(alternatives: Sequence[Sequence[Test]]) -> Iterator[tuple[int, int, int, int]]:
    """Yield instructions that allow the call if all tests of one of ``alternatives`` hold."""
    for tests in alternatives:
        for left, (word, mask, value) in zip(range(len(tests), 0, -1), tests, strict=True):
            yield from ((_LOAD, 0, 0, _ARGUMENTS + 4 * word), (_AND, 0, 0, mask))
            yield (_EQUAL, 0, 3 * (left - 1) + 1, value)  # else to the next alternative
        yield (_RETURN, 0, 0, _ALLOW)


def restrict(*, may_open: bool) -> str:
    """Install the filter in all threads for ever; return ``""``, or why that is not possible."""
    machine = platform.machine()
    if machine not in ARCHITECTURES or sys.maxsize < 2**32:
        return f"there is no list of system calls for {machine}"

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    code = program(machine, pid=os.getpid(), may_open=may_open)
    libc, content = ctypes.CDLL(None, use_errno=True), Program(len(code) // 8, code)
    for flags in (_TSYNC | _SPEC_ALLOW, _TSYNC):  # without the first, old kernels slow the process down
        number = ctypes.c_long(_SYSCALL_SECCOMP[machine])
        if not (failed := libc.syscall(number, _SET_MODE_FILTER, flags, ctypes.byref(content))):
            return ""
    return f"a thread refuses it: {failed}" if failed > 0 else os.strerror(ctypes.get_errno())


def calls(machine: str) -> Mapping[str, Mapping[str, int]]:
    """Return the numbers of all tables, for comparison with those of the kernel."""
    tables = {"allowed": _ALLOWED, "looks": _LOOKS, "deadly": _DEADLY}
    return {name: numbers(table, machine) for name, table in tables.items()}
