"""What can be saved of a hot directory that cannot be used as it is.

A stray or hostile write may spoil bus.ctl or a control page while the segments next to it still
hold records that are not durable yet. The hot directory is then set aside, and a new one is made:
each hot segment whose header verifies is *copied* (whoever still has the old files mapped cannot
change the copies), its end is found by a scan, and a new control page is made around the copies.

    T-P.ctl        spoiled      ──►  made anew; the next offset is the reserved limit, for what was
                                     given out before cannot be known
    T-P.*.seg      header good  ──►  copied; frames that do not verify stay, for the replica and
                                     readers to report
                   header bad   ──►  a known gap

Segments that the durable log has whole are left out. What a death in the middle leaves is the
directory that was set aside, and the next broker begins again.
"""

import logging
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from bus import files
from bus.errors import CorruptSegmentError, DirectoryError, UnsupportedVersionError
from bus.native.core import LAYOUT, SegmentHeader, crc32c, parse_header, scan_segment, seal_segment

logger = logging.getLogger(__name__)

#: Behind the name of a hot directory that is set aside.
SUFFIX: Final = ".old"

_SEGMENT: Final = re.compile(r"(\d+)-(\d+)\.(\d+)\.seg")
_HEADER_BYTES: Final = LAYOUT["sizeof.bus_segment"]
_FRAME_BYTES: Final = LAYOUT["sizeof.bus_frame"]
_CRC_AT: Final = LAYOUT["bus_segment.header_crc"]
_PREVIOUS_END_AT: Final = LAYOUT["bus_segment.previous_end"]
_CRC_FROM: Final = LAYOUT["bus_segment.bus_id"]
_CRC_TO: Final = LAYOUT["bus_segment.reserved"]
_COPY_BYTES: Final = 16 << 20


class Found(NamedTuple):
    """A hot segment file whose header verifies, by its name in the directory set aside."""

    name: str
    header: SegmentHeader


class Saved(NamedTuple):
    """A segment that was copied: the file in the new hot directory, and what it holds."""

    serial: int
    size: int
    number: int
    base_offset: int
    end_offset: int


def find(old_fd: int, bus_id: int, topic_id: int, partition: int) -> list[Found]:
    """The segments of a partition that can be told, by number. Raises OSError."""
    found: dict[int, Found] = {}
    for name in sorted(os.listdir(old_fd)):
        match = _SEGMENT.fullmatch(name)
        if match is None or (int(match[1]), int(match[2])) != (topic_id, partition):
            continue
        header = _read_header(old_fd, name)
        if header is not None and (header.bus_id, header.topic_id, header.partition) == (
            bus_id,
            topic_id,
            partition,
        ):
            found[header.number] = Found(name, header)
    return [found[number] for number in sorted(found)]


def _read_header(old_fd: int, name: str) -> SegmentHeader | None:
    try:
        fd = files.open_file(name, os.O_RDONLY, dir_fd=old_fd)
    except DirectoryError as error:
        logger.error("%s cannot be saved: %s", name, error)
        return None
    try:
        data = os.pread(fd, _HEADER_BYTES, 0)
        size = os.fstat(fd).st_size
        header = parse_header(data)
    except (CorruptSegmentError, UnsupportedVersionError) as error:
        logger.error("%s cannot be saved: %s", files.path_of(fd), error)
        return None
    finally:
        os.close(fd)
    return header if header.bytes == size else None


def copy_all(
    old_fd: int, new_fd: int, found: Iterable[Found], names: Iterable[tuple[int, str]], end: int
) -> list[Saved]:
    """Copies segments into the new hot directory; all are sealed then.

    `names` gives a serial and a file name for each; `end` is where the log ended before the first
    of them. Raises OSError, and NoSpaceError when the filesystem is full.
    """
    saved: list[Saved] = []
    chain = list(found)
    for (serial, name), segment, after in zip(names, chain, [*chain[1:], None], strict=False):
        fd = _copy(old_fd, segment, new_fd, name)
        try:
            if segment.header.previous_end > end:
                _bridge(fd, end)
            known = None if after is None else after.header.previous_end
            end = _seal(fd, segment.header, known)
        finally:
            os.close(fd)
        header = segment.header
        saved.append(Saved(serial, header.bytes, header.number, header.base_offset, end))
    return saved


def _copy(old_fd: int, segment: Found, new_fd: int, name: str) -> int:
    source = files.open_file(segment.name, os.O_RDONLY, dir_fd=old_fd)
    try:
        target = files.open_file(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, dir_fd=new_fd)
        files.allocate(target, segment.header.bytes)
        at = 0
        while at < segment.header.bytes:
            at += os.sendfile(target, source, at, min(_COPY_BYTES, segment.header.bytes - at))
    finally:
        os.close(source)
    return target


def _bridge(fd: int, end: int) -> None:
    """Makes the hole in front of a segment, whose neighbour is lost, a known gap."""
    header = bytearray(os.pread(fd, _CRC_TO, 0))
    header[_PREVIOUS_END_AT : _PREVIOUS_END_AT + 8] = end.to_bytes(8, "little")
    header[_CRC_AT : _CRC_AT + 4] = crc32c(header[_CRC_FROM:]).to_bytes(4, "little")
    os.pwrite(fd, header, 0)


def _seal(fd: int, header: SegmentHeader, known_end: int | None) -> int:
    """Ends a copied segment where it ends: returns the offset behind its last record.

    `known_end` is what the segment after it says; without one, it ends behind its last frame that
    verifies.
    """
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        scan = scan_segment(view)
    if scan.sealed or known_end is None:
        position = min(scan.end_position, header.bytes - _FRAME_BYTES)
        seal_segment(fd, position, scan.next_offset)
        return scan.next_offset
    _write_seal(fd, known_end)
    return known_end


def _write_seal(fd: int, end_offset: int) -> None:
    """A segment with damage in it: where it ends is known from its neighbour alone."""
    at = LAYOUT["bus_segment.end_offset"]
    os.pwrite(fd, end_offset.to_bytes(8, "little"), at)


def set_aside(path: Path) -> Path:
    """Renames a hot directory that cannot be used; returns where it is now. Raises OSError."""
    aside = aside_of(path)
    os.rename(path, aside)
    return aside


def aside_of(path: Path) -> Path:
    """Where the hot directory at `path` would be set aside."""
    return path.with_name(path.name + SUFFIX)
