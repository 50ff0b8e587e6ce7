"""The durable segments of a partition, as a reader finds them.

A file is found by its name. Its header is believed if its checksum holds; what a damaged header
said is worked out again: the base offset is the name, and the number is the one with which the
frames verify. The seal is a cache that no checksum covers, so it counts only if the end frame
stands where it says; otherwise the frames are walked.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from bus.durable import (
    DATA_START,
    good_runs,
    list_segments,
    number_in,
    open_dir,
    open_segment,
    segment_name,
)
from bus.errors import BusError, CorruptRecordError, CorruptSegmentError
from bus.native.core import (
    Mapping,
    Partition,
    SegmentHeader,
    find_good,
    parse_header,
    scan_segment,
    segment_seed,
)
from bus.structs import TopicPartition

#: No record has a higher one.
_OFFSET_MAX: Final = (1 << 63) - 1


class ColdSegment(NamedTuple):
    """A durable segment: `previous_end` is where the one before it ended."""

    mapping: Mapping
    number: int
    base_offset: int
    previous_end: int


class ColdSegments:
    """The durable segments of one partition. Nothing is kept open between two calls."""

    def __init__(self, path: Path, log: Partition, topic_partition: TopicPartition) -> None:
        self._path = path
        self._log = log
        self._topic_partition = topic_partition

    def find(self, offset: int) -> ColdSegment | None:
        """The sealed segment with this offset, or the first one behind it; None if none is.

        Raises CorruptRecordError for a file that is no segment any more.
        """
        if not self._path.exists():
            return None
        with open_dir(self._path) as dir_fd:
            bases = list_segments(dir_fd)
            for at in range(max(bisect_right(bases, offset) - 1, 0), len(bases)):
                behind = bases[at + 1] if at + 1 < len(bases) else None
                found = self._open_if_beyond(dir_fd, bases[at], behind, offset)
                if found is not None:
                    return found
        return None

    def all_from(self, offset: int) -> Iterator[ColdSegment]:
        """Every sealed segment that ends behind the offset, oldest first."""
        while (found := self.find(offset)) is not None:
            yield found
            behind = self.base_behind(found.base_offset)
            if behind is None:
                return
            offset = max(offset, behind)

    def base_behind(self, offset: int) -> int | None:
        """The base offset of the first segment that begins behind the offset."""
        if not self._path.exists():
            return None
        return min((base for base in list_segments(self._path) if base > offset), default=None)

    def copy(self, number: int, base_offset: int) -> Mapping | None:
        """The file of segment `number`, sealed or not; None if it is not there or not that one."""
        try:
            with open_dir(self._path) as dir_fd:
                fd = open_segment(dir_fd, base_offset)
        except (OSError, BusError):
            return None
        try:
            header = _header_of(os.pread(fd, DATA_START, 0))
            if header is None or (header.number, header.seed) != (number, self._log.seed(number)):
                return None
            return Mapping(fd, header.bytes)
        finally:
            os.close(fd)

    def file_of(self, number: int) -> str:
        """Path of the file of that segment; of the directory if it cannot be told."""
        with suppress(OSError, BusError), open_dir(self._path) as dir_fd:
            for base in list_segments(dir_fd):
                with suppress(OSError, BusError), _opened(dir_fd, base) as fd:
                    if number_in(os.pread(fd, DATA_START, 0)) == number:
                        return str(self._path / segment_name(base))
        return str(self._path)

    # ------------------------------------------------------------------------------- details

    def _open_if_beyond(
        self, dir_fd: int, base: int, behind: int | None, offset: int
    ) -> ColdSegment | None:
        """The segment, if it is sealed and ends behind the offset. A deleted one counts as none."""
        try:
            fd = open_segment(dir_fd, base)
        except FileNotFoundError:
            return None
        except (OSError, BusError) as error:
            raise self._unreadable(base, behind, offset, str(error)) from error
        try:
            size = os.fstat(fd).st_size
            head = os.pread(fd, DATA_START, 0)
            if size <= DATA_START:
                raise self._unreadable(base, behind, offset, f"it has {size} bytes only")
            found = self._identify(fd, head, size, base, behind)
        finally:
            os.close(fd)
        if found is None:
            reason = "its header is damaged, and no frame in it verifies"
            raise self._unreadable(base, behind, offset, reason)
        end = self._end_of(found, behind)
        return found if end is not None and end > offset else None

    def _identify(
        self, fd: int, head: bytes, size: int, base: int, behind: int | None
    ) -> ColdSegment | None:
        """What the file is by its header, or else by a frame that belongs there."""
        header = _header_of(head)
        if header is not None and header.base_offset == base and self._is_ours(header):
            # Mapped as long as it once was: behind what is left of it there are zeros.
            return ColdSegment(Mapping(fd, header.bytes), header.number, base, header.previous_end)
        mapping = Mapping(fd, size)
        most = _OFFSET_MAX if behind is None else behind - 1  # higher ones are another file's
        for number in self._candidates(head):
            seed = self._log.seed(number)
            good = find_good(mapping, start=DATA_START, least=base, most=most, seed=seed)
            if good is not None:
                return ColdSegment(mapping, number, base, base)
        return None

    def _is_ours(self, header: SegmentHeader) -> bool:
        return header.seed == segment_seed(
            header.bus_id, self._log.topic_id, self._log.partition, header.number
        )

    def _candidates(self, head: bytes) -> Iterator[int]:
        """Numbers that a file with a damaged header may have: its own, and those in between."""
        yield number_in(head)
        known: set[int] = set()
        with open_dir(self._path) as dir_fd:
            for base in list_segments(dir_fd):
                with suppress(OSError, BusError), _opened(dir_fd, base) as fd:
                    header = _header_of(os.pread(fd, DATA_START, 0))
                    if header is not None:
                        known |= {header.number - 1, header.number + 1}
        yield from sorted(known | {slot.number - 1 for slot in self._log.ring() if slot.number})

    def _end_of(self, segment: ColdSegment, behind: int | None) -> int | None:
        """The offset after its last record; None if it was never sealed and is the newest one."""
        header = _header_of(memoryview(segment.mapping)[:DATA_START])
        sealed = header.end_offset if header is not None else 0
        if header is not None and sealed and self._seal_holds(segment, header):
            return sealed
        if behind is None and not sealed:
            return None
        seed = self._log.seed(segment.number)
        *_, last = good_runs(segment.mapping, offset=segment.base_offset, seed=seed)
        end = last.next_offset  # of the last record that verifies, whatever is damaged before it
        return max(end, sealed) if behind is None or sealed <= behind else end

    def _seal_holds(self, segment: ColdSegment, header: SegmentHeader) -> bool:
        at, seed = header.end_position, self._log.seed(segment.number)
        if not DATA_START <= at < len(segment.mapping):
            return False
        scan = scan_segment(segment.mapping, start=at, offset=header.end_offset, seed=seed)
        return bool(scan.sealed) and scan.end_position == at

    def _unreadable(
        self, base: int, behind: int | None, offset: int, why: str
    ) -> CorruptRecordError:
        topic, partition = self._topic_partition
        file = str(self._path / segment_name(base))
        hot = min((slot.base_offset for slot in self._log.ring() if slot.number), default=None)
        following = behind if behind is not None else hot
        first = max(offset, base)
        last = "the end" if following is None else str(following - 1)
        return CorruptRecordError(
            f"{topic}-{partition}: offsets {first} to {last} are missing: {file}: {why}; seek to"
            f" {following}, and run 'bus check'",
            offset=first,
            position=0,
            reason=why,
            topic=topic,
            partition=partition,
            file=file,
            next_offset=-1 if following is None else following,
        )


@contextmanager
def _opened(dir_fd: int, base: int) -> Iterator[int]:
    fd = open_segment(dir_fd, base)
    try:
        yield fd
    finally:
        os.close(fd)


def _header_of(head: bytes | memoryview) -> SegmentHeader | None:
    try:
        return parse_header(head)
    except CorruptSegmentError:
        return None
