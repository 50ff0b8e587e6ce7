"""A sealed durable segment made anew, from whatever verifies of it on disk and in RAM.

Both tiers have the same bytes at the same positions. So frame by frame the new file gets what
verifies in the old one, else what verifies in the hot ring; what verifies in neither keeps its
bytes, as evidence and as the reason of the error that readers get. Where there is no old file, a
gap frame stands for it.

Written aside, synced, renamed over the old one: who has that mapped keeps it, and whoever dies in
between leaves a `.mended.log.tmp`. The index is a cache; entries that lie are left out.
"""

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bus.durable import (
    DATA_START,
    IDENTITY_BYTES,
    MENDED_SUFFIX,
    NO_TIMESTAMP,
    create_temporary,
    discard_temporary,
    identity_of,
    publish_temporary,
)
from bus.errors import CorruptRecordError, CorruptSegmentError
from bus.native.core import (
    LAYOUT,
    Mapping,
    Partition,
    bad_index_entry,
    end_frame,
    find_good,
    gap_frame,
    parse_header,
    scan_segment,
)

FRAME_BYTES: Final = LAYOUT["sizeof.bus_frame"]
_BUFFER_BYTES: Final = 1 << 20
#: end_offset, end_position and max_timestamp follow each other
_SEAL: Final = struct.Struct("<QQq")
_SEAL_AT: Final = LAYOUT["bus_segment.end_offset"]
_INDEX_AT: Final = LAYOUT["bus_segment.index"]
_INDEX_ENTRY_BYTES: Final = LAYOUT["sizeof.bus_index_entry"]

assert LAYOUT["bus_segment.max_timestamp"] == _SEAL_AT + _SEAL.size - 8


class Old(NamedTuple):
    """What there is of a damaged file: its header, if that can be believed, and its bytes."""

    header: bytes | None
    mapping: Mapping


class Hole(NamedTuple):
    """Records from `first` to before `end` that verify in neither copy."""

    first: int
    end: int


@dataclass
class Mended:
    """What became of a segment."""

    #: bytes of frames that came from the hot ring
    from_hot: int = 0
    holes: list[Hole] = field(default_factory=list)


class Mender:
    """Makes one durable segment anew; used once."""

    def __init__(self, log: Partition, dir_fd: int, number: int, header: bytes, old: Old | None):
        """`header`: of the new file, with the index that it shall have."""
        self._log = log
        self._dir_fd = dir_fd
        self._number = number
        self._header = header
        self._old = old
        self._facts = parse_header(header)
        self._seed = log.seed(number)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._position = DATA_START
        self._offset = self._facts.base_offset
        self._done = Mended()
        self._found_end = False  # a frame that verifies says where the segment ends
        self._fd = -1

    def mend(self, may_publish: Callable[[int], bool]) -> Mended | None:
        """The new file in the place of the old one.

        None if nothing could be done for it: then it stays as it is. `may_publish(end offset)` is
        asked at last. Raises OSError, BusError.
        """
        base = self._facts.base_offset
        self._fd = create_temporary(
            self._dir_fd, base, identity_of(self._header), self._facts.bytes, MENDED_SUFFIX
        )
        published = False
        try:
            while self._copy_run():
                pass
            if self._is_better():
                self._seal()
                if may_publish(self._offset):
                    publish_temporary(self._dir_fd, base, self._fd, MENDED_SUFFIX)
                    published = True
        finally:
            os.close(self._fd)
            if not published:
                discard_temporary(self._dir_fd, base, MENDED_SUFFIX)
        return self._done if published else None

    def _is_better(self) -> bool:
        """Frames came from RAM; or all are there, so that it was header, seal or index that lied.

        Never a file in which nothing verifies: then it may be we who are wrong.
        """
        return self._done.from_hot > 0 or (self._found_end and not self._done.holes)

    # ------------------------------------------------------------------------------ the frames

    def _copy_run(self) -> bool:
        """Copies the next frames that verify anywhere; False at the end of the segment."""
        sealed = self._run_of_old()
        if sealed is None:
            sealed = self._run_of_hot()
        if sealed is None:
            return self._pass_over()
        self._found_end = sealed
        return not sealed

    def _run_of_old(self) -> bool | None:
        """Whether the segment ends behind the frames copied; None if there were none."""
        if self._old is None:
            return None
        start = self._position
        scan = scan_segment(self._old.mapping, start=start, offset=self._offset, seed=self._seed)
        end = scan.end_position + (FRAME_BYTES if scan.sealed else 0)
        if end == start:
            return None
        self._write(memoryview(self._old.mapping)[start:end], scan.next_offset)
        if scan.sealed:
            self._position = scan.end_position
        return scan.sealed

    def _run_of_hot(self) -> bool | None:
        while True:
            try:
                copied, offset, sealed, need = self._log.copy(
                    self._number, self._position, self._buffer, self._offset
                )
            except (CorruptRecordError, CorruptSegmentError):
                return None  # damaged, too; or recycled just now
            if not need:
                break
            self._buffer = bytearray(need)
        if not copied:
            return None
        self._done.from_hot += copied
        self._write(memoryview(self._buffer)[:copied], offset)
        if sealed:
            self._position -= FRAME_BYTES
        return sealed

    def _write(self, frames: memoryview, offset: int) -> None:
        at, self._position = self._position, self._position + len(frames)
        self._offset = offset
        while frames:
            written = os.pwrite(self._fd, frames, at)
            at, frames = at + written, frames[written:]

    # ------------------------------------------------------------------------------- the holes

    def _pass_over(self) -> bool:
        """Goes on where a frame verifies again in either copy; False if none does."""
        found = self._next_good()
        if found is None:
            self._end_in_hole()
            return False
        position, offset = found
        self._done.holes.append(Hole(self._offset, offset))
        self._fill(position, offset)
        return True

    def _next_good(self) -> tuple[int, int] | None:
        start, found = self._position + 1, []
        if self._old is not None:
            found.append(
                find_good(self._old.mapping, start=start, least=self._offset, seed=self._seed)
            )
        with suppress(CorruptSegmentError):
            found.append(self._log.find_good(self._number, start, self._offset))
        return min((one for one in found if one is not None), default=None)

    def _fill(self, position: int, offset: int) -> None:
        if self._old is not None:  # a file that was cut has less, and zeros stand for the rest
            self._write(memoryview(self._old.mapping)[self._position : position], offset)
        else:
            size = position - self._position
            self._write(memoryview(gap_frame(size, self._offset, offset, self._seed)), offset)
        self._position = position

    def _end_in_hole(self) -> None:
        """The last frames are damaged, the end frame among them: it is written again."""
        end, position = self._known_end()
        if end > self._offset:
            self._done.holes.append(Hole(self._offset, end))
        if position > self._position:
            self._fill(position, end)
        self._offset = end
        frame = end_frame(end, self._number + 1, self._seed)
        self._write(memoryview(frame), end)
        self._position -= FRAME_BYTES

    def _known_end(self) -> tuple[int, int]:
        """The segment's end offset and the place of its end frame, as far as anybody says."""
        said = [self._facts] if self._facts.end_offset else []
        if self._old is not None and self._old.header is not None:
            said.append(parse_header(self._old.header))
        last = self._facts.bytes - FRAME_BYTES
        for facts in said:
            if facts.end_offset >= self._offset and self._position <= facts.end_position <= last:
                return facts.end_offset, facts.end_position
        return self._offset, min(self._position, last)

    # -------------------------------------------------------------------------------- the seal

    def _seal(self) -> None:
        """Index and seal, behind frames that are on disk: see Mirror.seal."""
        os.fdatasync(self._fd)
        mapping = Mapping(self._fd, self._facts.bytes)
        index = bytearray(self._header[_INDEX_AT:DATA_START])
        os.pwrite(self._fd, index, _INDEX_AT)
        while (entry := self._lying_entry(mapping)) is not None:
            at = entry * _INDEX_ENTRY_BYTES
            index[at : at + _INDEX_ENTRY_BYTES] = bytes(_INDEX_ENTRY_BYTES)
            os.pwrite(self._fd, index, _INDEX_AT)
        seal = _SEAL.pack(self._offset, self._position, self._latest(mapping))
        os.pwrite(self._fd, seal, _SEAL_AT)

    def _lying_entry(self, mapping: Mapping) -> int | None:
        return bad_index_entry(mapping, base_offset=self._facts.base_offset, seed=self._seed)

    def _latest(self, mapping: Mapping) -> int:
        """The largest timestamp of all that verifies."""
        position, offset, latest = DATA_START, self._facts.base_offset, NO_TIMESTAMP
        while True:
            scan = scan_segment(mapping, start=position, offset=offset, seed=self._seed)
            latest = max(latest, scan.max_timestamp)
            if scan.sealed:
                return latest
            good = find_good(
                mapping, start=scan.end_position + 1, least=scan.next_offset, seed=self._seed
            )
            if good is None:
                return latest
            position, offset = good


def header_for(log: Partition, number: int, old: Old | None, previous_end: int) -> bytes | None:
    """Header and index for a segment's new file: the hot one's, else its own.

    `previous_end`: where the segment before it ends. None if nobody knows it any more.
    """
    hot = None
    with suppress(CorruptSegmentError):
        hot = log.segment_header(number, previous_end)
    if old is None or old.header is None:
        return hot
    if hot is None:
        return old.header
    return old.header[:IDENTITY_BYTES] + hot[IDENTITY_BYTES:]
