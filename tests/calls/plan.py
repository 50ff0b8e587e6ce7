"""Which calls are hit, and by what: decided from a trace of the life to which nothing happens."""

import errno
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def targets(scenario: str, calls: Sequence[Call], processes: Iterable[int]) -> Iterator[Target]:
    """All that a full sweep tries: deaths, and errors in turn, at every call of these processes.

    Calls of one name from one place, with the same way that led there, are one: the first of them
    is hit. One that changes something gets each of its errors; one that only looks gets one.
    """
    for (who, name), sites in sorted(_sites(calls, processes).items()):
        stride = LOOKING.get(name, 1)
        if name in DEADLY:
            for site in sites[:: stride * _OPENS.get(name, 1)]:
                yield Target(scenario, Injection(who, name, site=site))
        errors = ERRORS.get(name)
        if not errors:
            continue
        each = name not in LOOKING and name not in _OPENS
        for turn, site in enumerate(sites[::stride]):
            for error in errors if each else errors[turn % len(errors) :][:1]:
                yield Target(scenario, Injection(who, name, error=error, site=site))
        if name == "fdatasync" and who != BROKER:  # killed before it can put that right
            for site in sites:
                yield Target(
                    scenario, Injection(who, name, error=errno.EIO, die_after=1, site=site)
                )


def _sites(
    calls: Sequence[Call], processes: Iterable[int]
) -> Mapping[tuple[int, str], Sequence[int]]:
    """From where each process makes each call, in the order in which they come first.

    What two replicas do alike, from one fork in the broker on, is hit in the first of them.
    """
    found: dict[tuple[int, str], dict[int, None]] = {}
    known: set[tuple[str, int]] = set()
    for who in sorted(processes):
        mine = {(call.name, call.site): None for call in calls if call.who == who}
        for name, site in mine:
            if (name, site) not in known:
                found.setdefault((who, name), {})[site] = None
        known.update(mine if who != BROKER else ())
    return {key: list(sites) for key, sites in found.items()}


def sample(found: Sequence[Target], count: int, dice: random.Random) -> list[Target]:
    """A few of them, each kind of call with the same chance."""
    kinds: dict[tuple[bool, str, bool], list[Target]] = {}
    for one in found:
        key = one.injection.who == BROKER, one.injection.call, bool(one.injection.error)
        kinds.setdefault(key, []).append(one)
    names = dice.sample(sorted(kinds), min(count, len(kinds)))
    return [dice.choice(kinds[name]) for name in names]
