"""The bytes of a durable segment made anew from all that is left of it. No I/O.

Both tiers have the same bytes at the same positions, so what does not verify in one is taken from
the other. What verifies in neither becomes a gap frame, which tells every reader what is missing.
Header, index and seal are worked out again from the frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bus.check.segment import HEADER
from bus.durable import DATA_START, NO_TIMESTAMP
from bus.fields import Fields
from bus.native.core import (
    LAYOUT,
    crc32c,
    end_frame,
    find_good,
    gap_frame,
    scan_segment,
    segment_seed,
)

FRAME_BYTES: Final = LAYOUT["sizeof.bus_frame"]
PAGE: Final = LAYOUT["BUS_PAGE"]
_FRAME: Final = Fields(
    "bus_frame",
    {"size": "I", "offset": "Q", "timestamp": "q", "attributes": "H", "producer": "Q"},
)
_ENTRY: Final = Fields(
    "bus_index_entry", {"position": "I", "relative_offset": "I", "max_timestamp": "q"}
)
_ENTRIES: Final = LAYOUT["BUS_INDEX_ENTRIES"]
_INDEX_AT: Final = LAYOUT["bus_segment.index"]
_SYNCED_AT: Final = LAYOUT["bus_segment.synced"]
_TYPE: Final = LAYOUT["BUS_TYPE_MASK"]
_PAD: Final = LAYOUT["BUS_TYPE_PAD"]
_CRC_FROM, _CRC_TO = HEADER.offsets["bus_id"], HEADER.offsets["seed"] + 8

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Identity:
    """What a segment's header says of it."""

    bus_id: int
    topic_id: int
    partition: int
    number: int
    base_offset: int
    previous_end: int
    size: int
    created_ns: int = 0

    @property
    def seed(self) -> int:
        """What is mixed into the checksums of its frames."""
        return segment_seed(self.bus_id, self.topic_id, self.partition, self.number)


class Gap(NamedTuple):
    """Records from `first` to before `end` are lost."""

    first: int
    end: int


class Image(NamedTuple):
    """A whole segment, the gaps that it has new, and the offset behind its last record."""

    data: bytearray
    gaps: list[Gap]
    end_offset: int


class _Place(NamedTuple):
    position: int
    offset: int


def make_image(
    identity: Identity, sources: Sequence[Bytes], end: int | None, *, is_open: bool = False
) -> Image:
    """The segment from its `sources`, which are believed as far as they verify.

    `end` is the offset that its records are known to reach, None if nothing but an end frame
    says so. `is_open`: it is the newest one, and goes on: no end frame is made up.
    """
    builder = _Builder(identity, sources)
    is_sealed = builder.run(end)
    if not is_sealed and not is_open:
        builder.end_here(end)
    return builder.finish()


class _Builder:
    """Walks along the sources, frame by frame, and writes what verifies."""

    def __init__(self, identity: Identity, sources: Sequence[Bytes]) -> None:
        self._identity = identity
        self._seed = identity.seed
        self._sources = sources
        self._data = bytearray(identity.size)
        self._at = _Place(DATA_START, identity.base_offset)
        self._gaps: list[Gap] = []
        #: position of the end frame, None without one
        self._end_position: int | None = None

    def run(self, end: int | None) -> bool:
        """Copies all that verifies; True if an end frame was reached, and all before it is told."""
        while True:
            if self._copy_runs():
                self.end_here(end)
                return True
            found = self._next_good()
            if found is None:
                return False
            self._write_gap(found.position - self._at.position, found.offset)

    def _copy_runs(self) -> bool:
        """From each source in turn, until none goes on; True if an end frame is there."""
        while True:
            before = self._at
            for source in self._sources:
                if self._copy_run(source):
                    return True
            if self._at == before:
                return False

    def _copy_run(self, source: Bytes) -> bool:
        if self._at.position + FRAME_BYTES > len(source):
            return False
        scan = scan_segment(
            source, start=self._at.position, offset=self._at.offset, seed=self._seed
        )
        start, stop = self._at.position, scan.end_position
        if stop > start:
            self._room(stop)
            self._data[start:stop] = source[start:stop]
            self._at = _Place(stop, scan.next_offset)
        return bool(scan.sealed)

    def _next_good(self) -> _Place | None:
        # Not where the damaged frame stands, though it may verify with a later offset, nor right
        # behind its beginning: the gap needs room for a frame of its own, or nobody is told.
        start, least = self._at.position + FRAME_BYTES, self._at.offset
        found = [
            find_good(source, start=start, least=least, seed=self._seed)
            for source in self._sources
            if len(source) > start
        ]
        return min((_Place(*one) for one in found if one is not None), default=None)

    def _write_gap(self, size: int, end: int) -> None:
        self._room(self._at.position + size)
        frame = gap_frame(size, self._at.offset, end, self._seed)
        self._data[self._at.position : self._at.position + size] = frame
        if end > self._at.offset:
            self._gaps.append(Gap(self._at.offset, end))
        self._at = _Place(self._at.position + size, end)

    def end_here(self, end: int | None) -> None:
        """No more frame verifies: what is known to have followed is a gap."""
        if end is not None and end > self._at.offset:
            self._write_gap(FRAME_BYTES, end)
        self._write_end(self._at.offset)

    def _write_end(self, offset: int) -> None:
        position = self._at.position
        self._room(position + FRAME_BYTES)
        frame = end_frame(offset, self._identity.number + 1, self._seed)
        self._data[position : position + FRAME_BYTES] = frame
        self._end_position = position

    def _room(self, position: int) -> None:
        if position > len(self._data):
            self._data.extend(bytes(-(-position // PAGE) * PAGE - len(self._data)))

    def finish(self) -> Image:
        """Header, index and seal for the frames that are there."""
        largest = self._write_index()
        if self._sources and len(self._sources[0]) >= PAGE:  # each vouches for itself
            self._data[_SYNCED_AT:PAGE] = self._sources[0][_SYNCED_AT:PAGE]
        write_header(self._data, self._identity)
        if self._end_position is not None:
            self._set("max_timestamp", largest)
            self._set("end_position", self._end_position)
            self._set("end_offset", self._at.offset)
        return Image(self._data, self._gaps, self._at.offset)

    def _write_index(self) -> int:
        """Fills the index; the largest timestamp."""
        interval = max(len(self._data) // _ENTRIES, 1)
        largest, written = NO_TIMESTAMP, -1
        for position, offset, timestamp in self._records():
            if written < position // interval < _ENTRIES:
                written = position // interval
                self._write_entry(written, position, offset, largest)
            largest = max(largest, timestamp)
        return largest

    def _write_entry(self, slot: int, position: int, offset: int, largest: int) -> None:
        at = _INDEX_AT + slot * _ENTRY.size
        relative = offset - self._identity.base_offset
        self._data[at : at + 4] = position.to_bytes(4, "little")
        self._data[at + 4 : at + 8] = relative.to_bytes(4, "little")
        self._data[at + 8 : at + 16] = largest.to_bytes(8, "little", signed=True)

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """(position, offset, timestamp) of every record."""
        position, stop = DATA_START, self._at.position
        while position < stop:
            frame = _FRAME.read(self._data, position)
            if frame["attributes"] & _TYPE != _PAD:
                yield position, frame["offset"], frame["timestamp"]
            position += frame["size"]

    def _set(self, name: str, value: int) -> None:
        at = HEADER.offsets[name]
        self._data[at : at + 8] = value.to_bytes(8, "little", signed=value < 0)


def write_header(data: bytearray, identity: Identity) -> None:
    """The identity of a segment of that many bytes, with its checksum; without a seal."""
    values = {
        "magic": LAYOUT["BUS_MAGIC_SEGMENT"],
        "version": LAYOUT["BUS_LAYOUT_VERSION"],
        "bus_id": identity.bus_id,
        "topic_id": identity.topic_id,
        "partition": identity.partition,
        "data_start": DATA_START,
        "number": identity.number,
        "base_offset": identity.base_offset,
        "previous_end": identity.previous_end,
        "bytes": len(data),
        "created_ns": identity.created_ns,
        "seed": identity.seed,
    }
    sizes = {"version": 4, "partition": 4, "data_start": 4}
    for name, value in values.items():
        at, size = HEADER.offsets[name], sizes.get(name, 8)
        data[at : at + size] = value.to_bytes(size, "little")
    at = HEADER.offsets["max_timestamp"]
    data[at : at + 8] = NO_TIMESTAMP.to_bytes(8, "little", signed=True)
    at = HEADER.offsets["header_crc"]
    data[at : at + 4] = crc32c(bytes(data[_CRC_FROM:_CRC_TO])).to_bytes(4, "little")
