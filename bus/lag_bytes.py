"""Bytes of frames between an offset and the end of a partition's log.

Of a sealed segment its own header says where its frames end; what was found once is remembered. In
the segment that holds the offset the index and a walk of frame headers find its place, to the byte;
only where that is damaged does the segment count from its begin.
"""

import os
import struct
from bisect import bisect_right
from pathlib import Path
from typing import Final, NamedTuple

from bus import files
from bus.durable import list_segments, open_dir, open_segment
from bus.errors import BusError
from bus.native.core import LAYOUT, Mapping, Partition, RingSlot, find_offset

_DATA_START: Final = LAYOUT["BUS_DATA_START"]
_NUMBER_AT: Final = LAYOUT["bus_segment.number"]
_SEAL: Final = struct.Struct("<QQ")
_SEAL_AT: Final = LAYOUT["bus_segment.end_offset"]
_WORD: Final = struct.Struct("<Q")
#: looks at a ring that moves on at each of them; then the log counts as it was seen last
_LOOKS_MAX: Final = 16


class Behind(NamedTuple):
    """Bytes from an offset to the tail, and where that stood: segment, position in it, its size."""

    bytes: int
    number: int
    position: int
    segment_bytes: int

    def place_of(self, limit: int) -> int:
        """The place, as a tail, where no frame may begin with so many bytes behind the offset.

        At the latest where the next segment begins: how many bytes lie before it is not known yet.
        """
        position = self.position + limit - self.bytes
        if position >= self.segment_bytes:
            return (self.number + 1) << 32 | _DATA_START
        return self.number << 32 | max(position, 0)


class ByteLag:
    """Measures in one partition."""

    def __init__(self, partition_path: Path, log: Partition) -> None:
        self._path = partition_path
        self._log = log
        #: where the frames of sealed segments end, by base offset
        self._ends: dict[int, int] = {}
        #: the place that was looked for last: (segment number, offset, position)
        self._place = (0, 0, 0)

    def behind(self, offset: int) -> Behind:
        """The bytes of all frames from the record with this offset on."""
        for _ in range(_LOOKS_MAX):
            number, position = self._log.tail
            ring = sorted(
                (slot for slot in self._log.ring() if 0 < slot.number <= number),
                key=lambda slot: slot.number,
            )
            found = self._measure(ring, position, offset)
            if ring and ring[-1].number == number == self._log.tail[0]:
                break
        size = ring[-1].bytes if ring else position
        return Behind(found, number, position, size)

    def _measure(self, ring: list[RingSlot], position: int, offset: int) -> int:
        total = 0
        for at in range(len(ring) - 1, -1, -1):
            slot = ring[at]
            end = position if at == len(ring) - 1 else self._end_of_hot(slot)
            if slot.base_offset <= offset:
                return total + max(end - self._place_in(slot, end, offset), 0)
            total += end - _DATA_START
        return total + self._cold(ring[0].base_offset if ring else offset, offset)

    # -------------------------------------------------------------------------- hot segments

    def _end_of_hot(self, slot: RingSlot) -> int:
        known = self._ends.get(slot.base_offset)
        if known is None:
            fd = self._open_hot(slot)
            try:
                known = self._ends[slot.base_offset] = _end_in(fd, slot.number, slot.bytes)
            finally:
                if fd >= 0:
                    os.close(fd)
        return known

    def _open_hot(self, slot: RingSlot) -> int:
        """Its file, -1 if it is gone."""
        log = self._log
        name = f"{log.topic_id}-{log.partition}.{slot.serial}.seg"
        try:
            return files.open_own(name, os.O_RDONLY, dir_fd=log.hot_fd)
        except (OSError, BusError):
            return -1

    def _place_in(self, slot: RingSlot, end: int, offset: int) -> int:
        if slot.end_offset and offset >= slot.end_offset:
            return end
        if offset == self._log.log_end_offset:
            return end
        if self._place[:2] == (slot.number, offset):
            return self._place[2]
        fd = self._open_hot(slot)
        try:
            place = self._find(fd, slot.number, slot.bytes, slot.base_offset, end, offset)
        finally:
            if fd >= 0:
                os.close(fd)
        self._place = (slot.number, offset, place)
        return place

    def _find(self, fd: int, number: int, size: int, base: int, end: int, offset: int) -> int:
        if fd < 0 or os.fstat(fd).st_size < size:
            return _DATA_START
        mapping = Mapping(fd, size)
        seed = self._log.seed(number)
        found = find_offset(mapping, base_offset=base, offset=offset, seed=seed, limit=end)
        return found or _DATA_START

    # ------------------------------------------------------------------------- cold segments

    def _cold(self, hot_start: int, offset: int) -> int:
        """Bytes from the offset to where the hot log begins, in durable segments."""
        if not self._log.replicated:
            return 0
        with open_dir(self._path) as dir_fd:
            bases = [base for base in list_segments(dir_fd) if base < hot_start]
            first = max(bisect_right(bases, offset) - 1, 0)
            return sum(self._cold_bytes(dir_fd, base, offset) for base in bases[first:])

    def _cold_bytes(self, dir_fd: int, base: int, offset: int) -> int:
        try:
            fd = open_segment(dir_fd, base)
        except (OSError, BusError):  # deleted meanwhile: it is no lag any more
            return 0
        try:
            size = os.fstat(fd).st_size
            number = _WORD.unpack(os.pread(fd, _WORD.size, _NUMBER_AT) or bytes(_WORD.size))[0]
            end = self._ends.get(base) or _end_in(fd, number, size)
            self._ends[base] = end
            if base >= offset:
                return end - _DATA_START
            return max(end - self._find(fd, number, size, base, end, offset), 0)
        finally:
            os.close(fd)


def _end_in(fd: int, number: int, size: int) -> int:
    """Where the frames of a sealed segment end; its size if its header does not say that."""
    if fd < 0 or _WORD.unpack(os.pread(fd, _WORD.size, _NUMBER_AT))[0] != number:
        return size
    end_offset, position = _SEAL.unpack(os.pread(fd, _SEAL.size, _SEAL_AT))
    return position if end_offset and _DATA_START <= position <= size else size
