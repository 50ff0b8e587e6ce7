"""The canary: pages at the end of bus.ctl and of every control page that nobody ever writes to.

    | the table | moat, 64 KiB | canary, 64 KiB |      both sparse: they take no memory

A program with a wild pointer, or a hostile one, that writes over all it can reach writes here as
well. Honest processes map these pages and never touch them; the kernel brings in at most the
64 KiB around a page that is touched, so no page of the canary stands in their page tables. So the
canary tells two things: that somebody writes where nobody may, and who it was, by
/proc/PID/pagemap, among any number of processes that share the file.

A single stray write elsewhere is not told by it: then `bus.guard` sees the damage, but not who.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bus.native.core import LAYOUT

#: What lies behind a table: the moat and the canary, in bytes.
CANARY_BYTES: Final = LAYOUT["BUS_MOAT_BYTES"] + LAYOUT["BUS_CANARY_BYTES"]

_MOAT: Final = LAYOUT["BUS_MOAT_BYTES"]
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: An entry of /proc/PID/pagemap, and the bit that says that the page is in memory for the process.
_ENTRY_BYTES: Final = 8
_PRESENT: Final = 1 << 63


class Area(NamedTuple):
    """A piece of a file that a process has mapped for writing."""

    address: int
    size: int
    offset: int


def is_touched(fd: int, table_bytes: int) -> bool:
    """True if somebody wrote to the canary of this file. Reads nothing where nothing was written.

    `fd` is a descriptor of the file, `table_bytes` the size of the table in front. Raises OSError.
    """
    at = table_bytes + _MOAT
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: no data from there on
            return False
        data = os.pread(fd, _PAGE, at)
        if not data:
            return False
        if any(data):  # a page of zeros was only looked at
            return True
        at += len(data)


def writers(fd: int) -> list[int]:
    """The processes that have the file mapped for writing, by pid. Only those that we may look at.

    Processes that end meanwhile are passed over.
    """
    return [pid for pid in _processes() if _areas(pid, _key(fd))]


def culprits(fd: int, table_bytes: int) -> list[int]:
    """The processes that touched the canary of this file, by pid."""
    key = _key(fd)
    first = table_bytes + _MOAT
    return [
        pid
        for pid in _processes()
        if any(_has_touched(pid, area, first) for area in _areas(pid, key))
    ]


def _key(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


def _processes() -> Iterator[int]:
    return (
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
    )


def _areas(pid: int, key: tuple[int, int, int]) -> list[Area]:
    """The writable mappings of a file in a process. /proc/PID/maps has a line for each:

    7f2c4c000000-7f2c4c021000 rw-s 00001000 00:19 1234  /dev/shm/...
    """
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    found = []
    for line in lines:
        addresses, mode, offset, device, inode, *_ = line.split(maxsplit=5)
        major, minor = (int(part, 16) for part in device.split(":"))
        if mode[1] == "w" and mode[3] == "s" and (major, minor, int(inode)) == key:
            start, end = (int(part, 16) for part in addresses.split("-"))
            found.append(Area(start, end - start, int(offset, 16)))
    return found


def _has_touched(pid: int, area: Area, first: int) -> bool:
    """True if any page of the file from byte `first` on is in the page table of the process."""
    skip = max(0, -(-(first - area.offset) // _PAGE))
    count = area.size // _PAGE - skip
    if count <= 0:
        return False
    try:
        with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
            pagemap.seek((area.address // _PAGE + skip) * _ENTRY_BYTES)
            entries = pagemap.read(count * _ENTRY_BYTES)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    words = memoryview(entries[: len(entries) // _ENTRY_BYTES * _ENTRY_BYTES]).cast("Q")
    return any(word & _PRESENT for word in words)
