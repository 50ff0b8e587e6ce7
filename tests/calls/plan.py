"""Which calls are hit, and by what: decided from a trace of the life to which nothing happens."""

import errno
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.calls.injector import BROKER, Call, Injection

_FULL = (errno.EIO, errno.ENOSPC)
_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENOSPC)
#: The errors that a call may well return on a machine that is failing or short of something.
ERRORS: dict[str, tuple[int, ...]] = {
    "accept4": (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED),
    "bind": (errno.EIO, errno.ENOSPC, errno.ENOMEM),
    "clone": (errno.EAGAIN, errno.ENOMEM),
    "clone3": (errno.EAGAIN, errno.ENOMEM),
    "dup": (errno.EMFILE,),
    "fallocate": _FULL,
    "fchmodat": (errno.EIO,),
    "fcntl": (errno.ENOLCK, errno.EIO),
    "fdatasync": _FULL,
    "fstat": (errno.EIO,),
    "fsync": _FULL,
    "ftruncate": _FULL,
    "getdents64": (errno.EIO, errno.ENOMEM),
    "link": _FULL,
    "linkat": _FULL,
    "listen": (errno.ENOMEM,),
    "madvise": (errno.ENOMEM, errno.EAGAIN),
    "mkdir": _FULL,
    "mkdirat": _FULL,
    "mmap": (errno.ENOMEM,),
    "mprotect": (errno.ENOMEM,),
    "mremap": (errno.ENOMEM,),
    "newfstatat": (errno.EIO, errno.ENOMEM),
    "open": _FILES,
    "openat": _FILES,
    "pidfd_open": (errno.EMFILE, errno.ENOMEM),
    "poll": (errno.ENOMEM,),
    "ppoll": (errno.ENOMEM,),
    "pread64": (errno.EIO,),
    "pwrite64": _FULL,
    "read": (errno.EIO,),
    "readlink": (errno.EIO, errno.ENOMEM),
    "recvfrom": (errno.ENOMEM, errno.ECONNRESET),
    "rename": _FULL,
    "renameat": _FULL,
    "rmdir": (errno.EIO,),
    "sendto": (errno.ENOMEM, errno.EPIPE),
    "socket": (errno.EMFILE, errno.ENOMEM),
    "socketpair": (errno.EMFILE, errno.ENOMEM),
    "statfs": (errno.EIO,),
    "sync_file_range": _FULL,
    "unlink": (errno.EIO,),
    "unlinkat": (errno.EIO,),
    "write": _FULL,
}
#: Calls that change something outside the process, or wait for it: a death before each of them.
_HARMLESS = {
    "fstat",
    "getdents64",
    "mprotect",
    "mremap",
    "newfstatat",
    "pread64",
    "read",
    "readlink",
}
_FAILING_NEVER = {"close_range", "exit_group", "futex", "munmap", "pidfd_send_signal", "wait4"}
DEADLY = frozenset(ERRORS) - _HARMLESS - {"statfs"} | _FAILING_NEVER
#: Calls that only look. There are many: every so many of them is hit in a full sweep.
LOOKING = {
    "fcntl": 3, "fstat": 4, "getdents64": 3, "madvise": 1, "mremap": 3,
    "newfstatat": 6, "pread64": 3, "readlink": 8, "futex": 4, "munmap": 3, "poll": 3,
}  # fmt: skip
#: The same for a call that is made before and after each file.
_OPENS = {"openat": 2}


@dataclass(frozen=True)
class Target:
    """One trial to be run."""

    scenario: str
    injection: Injection


def targets(scenario: str, calls: Iterable[Call], processes: Sequence[int]) -> Iterator[Target]:
    """All that a full sweep tries: deaths, and errors in turn, at every call of these processes.

    A call that changes something gets each of its errors; one that only looks gets one of them.
    """
    counts = Counter((call.who, call.name) for call in calls if call.who in processes)
    for (who, name), count in sorted(counts.items()):
        stride = LOOKING.get(name, 1)
        if name in DEADLY:
            for nth in range(1, count + 1, stride * _OPENS.get(name, 1)):
                yield Target(scenario, Injection(who, name, nth))
        errors = ERRORS.get(name)
        if not errors:
            continue
        each = name not in LOOKING and name not in _OPENS
        for nth in range(1, count + 1, stride):
            for error in errors if each else errors[nth % len(errors) :][:1]:
                yield Target(scenario, Injection(who, name, nth, error))
        if name == "fdatasync" and who != BROKER:  # killed before it can put that right
            for nth in range(1, count + 1):
                yield Target(scenario, Injection(who, name, nth, errno.EIO, die_after=1))


def sample(found: Sequence[Target], count: int, dice: random.Random) -> list[Target]:
    """A few of them, each kind of call with the same chance."""
    kinds: dict[tuple[bool, str, bool], list[Target]] = {}
    for one in found:
        key = one.injection.who == BROKER, one.injection.call, bool(one.injection.error)
        kinds.setdefault(key, []).append(one)
    names = dice.sample(sorted(kinds), min(count, len(kinds)))
    return [dice.choice(kinds[name]) for name in names]
