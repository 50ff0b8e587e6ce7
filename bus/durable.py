"""The durable segment files of one partition: their names, their creation, their removal.

    topics/NAME/P/00000000000000000000.log    named by base offset; the name is the index

Truth. A file appears under its name only when its header, its whole length and its first records
are on disk (temporary name, fallocate, write, fdatasync, rename, fsync of the directory), so every
file found after a power loss has a header. All files but the newest one are sealed and complete:
the replica syncs a file to its end before it names the next one. Recovery therefore scans the
newest file alone.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bus import files
from bus.errors import NoSpaceError
from bus.native.core import (
    LAYOUT,
    Mapping,
    Scan,
    SegmentHeader,
    find_good,
    parse_header,
    scan_segment,
)

#: The timestamp of no record: below all.
NO_TIMESTAMP: Final = -(1 << 63)
_NUMBER_AT: Final = LAYOUT["bus_segment.number"]
#: Digits of a base offset in a file name: the width of the largest 63-bit offset, and one more.
NAME_DIGITS: Final = 20
SUFFIX: Final = ".log"
TEMPORARY_SUFFIX: Final = ".log.tmp"
#: A sealed segment that is made anew while the replica writes others.
MENDED_SUFFIX: Final = f".mended{TEMPORARY_SUFFIX}"
#: what can run out and come back, and what helps: no reason to give a segment up
_SPACE: Final = "free space or inodes on the filesystem of the bus directory"
_COMES_BACK: Final = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.ENOMEM: "free some memory",
}
#: A file that recovery could not read is kept under this name for people to look at.
DAMAGED_SUFFIX: Final = ".log.damaged"

#: Header, index and everything else before the first frame, in bytes.
DATA_START: Final = LAYOUT["sizeof.bus_segment"]
#: The part of the header that never changes after creation; the seal fields follow it.
IDENTITY_BYTES: Final = LAYOUT["bus_segment.end_offset"]


def segment_name(base_offset: int) -> str:
    """The file name of the durable segment that begins at `base_offset`."""
    return f"{base_offset:0{NAME_DIGITS}d}{SUFFIX}"


def list_segments(partition_dir: Path | int) -> list[int]:
    """The base offsets of all durable segments in a directory, ascending."""
    names = list_names(partition_dir) if isinstance(partition_dir, int) else None
    return sorted(
        int(name[:NAME_DIGITS])
        for name in (os.listdir(partition_dir) if names is None else names)
        if len(name) == NAME_DIGITS + len(SUFFIX)
        and name.endswith(SUFFIX)
        and name[:NAME_DIGITS].isdigit()
    )


def list_names(dir_fd: int) -> list[str]:
    """What a directory holds, read through a descriptor of its own.

    `os.listdir` of one that was listed before rewinds it, and takes a rewind that fails for the
    end: a log would look empty, and its records be lost to everybody.
    """
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


@contextmanager
def open_dir(path: Path) -> Iterator[int]:
    """The descriptor of a directory of ours, for the time of a `with` block."""
    fd = files.open_directory(path)
    try:
        yield fd
    finally:
        os.close(fd)


def open_segment(dir_fd: int, base_offset: int, *, writable: bool = False) -> int:
    """A descriptor of the durable segment that begins at `base_offset`."""
    flags = os.O_RDWR if writable else os.O_RDONLY
    return files.open_own(segment_name(base_offset), flags, dir_fd=dir_fd)


def read_header(dir_fd: int, base_offset: int) -> SegmentHeader:
    """The checked header of a durable segment. Raises CorruptSegmentError naming the field."""
    fd = open_segment(dir_fd, base_offset)
    try:
        return parse_header(os.pread(fd, DATA_START, 0))
    finally:
        os.close(fd)


def number_in(head: bytes) -> int:
    """The number in a header that need not be one."""
    return int.from_bytes(head[_NUMBER_AT : _NUMBER_AT + 8], "little")


def good_runs(mapping: Mapping, *, offset: int, seed: int) -> Iterator[Scan]:
    """Each run of frames that verify: from the first record, at `offset`, and behind each damage.

    It ends with the run that reaches the end frame, or after which nothing verifies.
    """
    start = DATA_START
    while True:
        scan = scan_segment(mapping, start=start, offset=offset, seed=seed)
        yield scan
        if scan.sealed or scan.error is None:
            return
        good = find_good(mapping, start=scan.end_position, least=scan.next_offset, seed=seed)
        if good is None:
            return
        start, offset = good


def identity_of(header: bytes) -> bytes:
    """The header of a new durable file: the hot one's without index and seal.

    Those two describe frames that are not in the durable file yet.
    """
    return header[:IDENTITY_BYTES] + bytes(DATA_START - IDENTITY_BYTES)


def create_temporary(
    dir_fd: int, base_offset: int, header: bytes, size: int, suffix: str = TEMPORARY_SUFFIX
) -> int:
    """A new segment file of `size` bytes under its temporary name, not yet synced.

    Raises NoSpaceError when the filesystem is full; no half file is left then.
    """
    name = f"{base_offset:0{NAME_DIGITS}d}{suffix}"
    discard_temporary(dir_fd, base_offset, suffix)  # of a replica that died: never written to again
    fd = -1
    try:
        fd = files.open_own(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dir_fd)
        os.posix_fallocate(fd, 0, size)
        os.pwrite(fd, header, 0)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
            os.unlink(name, dir_fd=dir_fd)  # ext4 keeps what it had allocated before it gave up
        if error.errno in _COMES_BACK:
            raise NoSpaceError(
                f"no room for a durable segment of {size} bytes ({name}): {error.strerror};"
                f" {_COMES_BACK[error.errno]}, the replica tries again"
            ) from error
        raise
    return fd


def publish_temporary(
    dir_fd: int, base_offset: int, fd: int, suffix: str = TEMPORARY_SUFFIX
) -> None:
    """Gives a temporary file its name, after its bytes and before its directory are synced."""
    os.fdatasync(fd)
    name = f"{base_offset:0{NAME_DIGITS}d}{suffix}"
    try:
        os.rename(name, segment_name(base_offset), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except IsADirectoryError:  # somebody's, in the place of a file of ours
        set_aside(dir_fd, base_offset)
        os.rename(name, segment_name(base_offset), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    os.fsync(dir_fd)


def discard_temporary(dir_fd: int, base_offset: int, suffix: str) -> None:
    """Deletes a temporary file that is not to get its name."""
    with suppress(FileNotFoundError):
        os.unlink(f"{base_offset:0{NAME_DIGITS}d}{suffix}", dir_fd=dir_fd)


def remove_segments(dir_fd: int, base_offsets: list[int]) -> None:
    """Deletes segments, oldest first, so that what remains is always a whole end of the log."""
    for base_offset in base_offsets:
        os.unlink(segment_name(base_offset), dir_fd=dir_fd)
    if base_offsets:
        os.fsync(dir_fd)


def set_aside(dir_fd: int, base_offset: int) -> str:
    """Takes an unreadable segment out of the log, keeping its bytes; returns its new name."""
    name = f"{base_offset:0{NAME_DIGITS}d}{DAMAGED_SUFFIX}"
    os.rename(segment_name(base_offset), name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    os.fsync(dir_fd)
    return name


def was_set_aside(dir_fd: int, base_offset: int) -> bool:
    """True if the segment that began there was taken out of the log as unreadable."""
    try:
        os.stat(f"{base_offset:0{NAME_DIGITS}d}{DAMAGED_SUFFIX}", dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def remove_leftovers(dir_fd: int) -> None:
    """Deletes temporary files of a replica that died before it could name them."""
    for name in list_names(dir_fd):
        if name.endswith(TEMPORARY_SUFFIX):
            os.unlink(name, dir_fd=dir_fd)
