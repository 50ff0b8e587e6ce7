"""What is wrong with a durable file, found by reading all of it again.

Header, length, every frame up to the end frame, seal and index. What was read is first dropped
from the page cache, as far as nobody has it mapped: what counts is the disk.
"""

import os
import threading
from typing import Final

from bus.durable import DATA_START, NO_TIMESTAMP, open_segment
from bus.errors import BusError, CorruptSegmentError
from bus.native.core import (
    Mapping,
    Partition,
    SegmentHeader,
    bad_index_entry,
    parse_header,
    scan_segment,
)

#: Read at once; then comes the pause that the rate asks for.
SLICE_BYTES: Final = 1 << 20


class Stopped(Exception):
    """Raised out of a pass when the replica ends."""


class Pace:
    """Holds the rate of reading; ends it when the replica ends."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self.stop = threading.Event()

    def take(self, size: int) -> None:
        """After reading that many bytes. Raises Stopped."""
        if self.stop.wait(size / self._bytes_per_s):
            raise Stopped


def find_rot(
    dir_fd: int, base_offset: int, log: Partition, pace: Pace, *, synced: int | None = None
) -> str | None:
    """What is wrong with the durable file that begins at `base_offset`, or None.

    `synced`: bytes that count in a file that is still being written. Raises FileNotFoundError,
    Stopped.
    """
    try:
        fd = open_segment(dir_fd, base_offset)
    except FileNotFoundError:
        raise
    except (OSError, BusError) as error:
        return str(error)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        header = parse_header(os.pread(fd, DATA_START, 0))
        size = os.fstat(fd).st_size
        if header.base_offset != base_offset or header.seed != log.seed(header.number):
            return "it is another segment"
        if size < header.bytes:
            return f"it was cut to {size} of {header.bytes} bytes"
        mapping = Mapping(fd, header.bytes)
    except (OSError, CorruptSegmentError) as error:
        return str(error)
    finally:
        os.close(fd)
    return _in_frames(mapping, header, pace, synced)


def _in_frames(
    mapping: Mapping, header: SegmentHeader, pace: Pace, synced: int | None
) -> str | None:
    position, offset, latest = DATA_START, header.base_offset, NO_TIMESTAMP
    end, size = synced or header.bytes, SLICE_BYTES
    while position < end:
        stop = min(position + size, end)
        scan = scan_segment(mapping, start=position, limit=stop, offset=offset, seed=header.seed)
        pace.take(scan.end_position - position)
        latest = max(latest, scan.max_timestamp)
        if scan.sealed and synced is None:
            if (scan.next_offset, scan.end_position, latest) != header[-3:]:
                return "its seal is not what its frames say"
            return _in_index(mapping, header)
        if scan.end_position == position and stop == end:
            return f"{scan.error} at position {position}, offset {offset}"
        # A frame that does not end in this slice is in the next one, or in a larger one.
        size = SLICE_BYTES if scan.end_position > position else size * 4
        position, offset = scan.end_position, scan.next_offset
    return None if synced is not None else "it has no end frame"


def _in_index(mapping: Mapping, header: SegmentHeader) -> str | None:
    entry = bad_index_entry(mapping, base_offset=header.base_offset, seed=header.seed)
    return None if entry is None else f"entry {entry} of its index leads to no frame"
