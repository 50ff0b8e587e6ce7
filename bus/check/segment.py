"""One segment's bytes: its header, every frame, every index entry, its seal.

Used for the durable files and for the hot ones. What may legally look broken: a frame beyond
`certain_end` (the replica or an appender was in the middle of it, or the power failed), and
missing index entries or a missing seal, which are caches. What is there must be right.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bus.check.damage import Findings
from bus.fields import Fields
from bus.frames import DATA_START, TYPE_END, TYPE_PAD, Frame, InvalidFrameError, read_frame
from bus.native.core import LAYOUT, crc32c

HEADER = Fields(
    "bus_segment",
    {
        "magic": "Q",
        "version": "I",
        "header_crc": "I",
        "bus_id": "Q",
        "topic_id": "Q",
        "partition": "I",
        "data_start": "I",
        "number": "Q",
        "base_offset": "Q",
        "previous_end": "Q",
        "bytes": "Q",
        "created_ns": "q",
        "seed": "Q",
        "end_offset": "Q",
        "end_position": "Q",
        "max_timestamp": "q",
    },
)
_ENTRY = Fields("bus_index_entry", {"position": "I", "relative_offset": "I", "max_timestamp": "q"})
_INDEX_AT = LAYOUT["bus_segment.index"]
_INDEX_ENTRIES = LAYOUT["BUS_INDEX_ENTRIES"]
_MAGIC = LAYOUT["BUS_MAGIC_SEGMENT"]
_VERSION = LAYOUT["BUS_LAYOUT_VERSION"]
#: The header's checksum covers the bytes from the first field behind it to the end of the seed.
_CRC_FROM = HEADER.offsets["bus_id"]
_CRC_TO = HEADER.offsets["seed"] + 8
_NO_TIMESTAMP = -(2**63)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a segment must say about itself, and how much of it must be whole."""

    bus_id: int
    topic_id: int
    partition: int
    #: Every frame with an offset below it must be there and whole.
    certain_offset: int = 0
    #: Position of the tail in an active hot segment: all below it is whole, nothing above counts.
    certain_end: int | None = None
    #: Whether offsets follow each other without holes (not so after compaction).
    dense: bool = True
    #: Whether a checksum may leave a value out: in a memory topic, whose values are never copied.
    bare_values: bool = False


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What the frames of a segment say, whatever its caches say."""

    number: int
    base_offset: int
    previous_end: int
    next_offset: int
    end_position: int
    sealed: bool
    next_number: int
    header: dict[str, int]


def check_segment(
    data: memoryview, expected: Expected, findings: Findings, progress: Callable[[int], None]
) -> SegmentFacts | None:
    """Check a whole segment; None if its header is too broken to read on.

    `progress` is called with the number of bytes done, now and then.
    """
    header = check_header(data, expected, findings)
    if header is None:
        return None
    walk = _Walk(data, header, expected, findings)
    walk.run(progress)
    _check_seal(header, walk, findings)
    return SegmentFacts(
        header["number"],
        header["base_offset"],
        header["previous_end"],
        walk.next_offset,
        walk.position,
        walk.end is not None,
        walk.end.producer if walk.end else 0,
        header,
    )


def check_header(data: memoryview, expected: Expected, findings: Findings) -> dict[str, int] | None:
    """The header's fields; None, with the reason noted, if nothing behind it can be trusted."""
    if len(data) < DATA_START:
        findings.add(len(data), f"the file is shorter than a segment header ({DATA_START} bytes)")
        return None
    header = HEADER.read(data)
    at = HEADER.offsets
    readable = findings.expect(at["magic"], "magic", hex(header["magic"]), hex(_MAGIC))
    readable &= findings.expect(at["version"], "version", header["version"], _VERSION)
    found = crc32c(data[_CRC_FROM:_CRC_TO])
    readable &= findings.expect(
        at["header_crc"], "header CRC32C", hex(header["header_crc"]), hex(found)
    )
    if not readable:
        return None
    for name in ("bus_id", "topic_id", "partition"):
        findings.expect(at[name], name, header[name], getattr(expected, name))
    readable &= findings.expect(at["data_start"], "data_start", header["data_start"], DATA_START)
    findings.expect(at["bytes"], "file size", len(data), header["bytes"])
    if header["number"] < 1:
        findings.add(at["number"], "segment numbers start at 1, this one is 0")
    if header["previous_end"] > header["base_offset"]:
        findings.add(at["previous_end"], _overlap(header))
    return header if readable else None


def _overlap(header: dict[str, int]) -> str:
    return (
        f"previous_end {header['previous_end']} is above base_offset {header['base_offset']}: "
        "two segments hold the same offsets"
    )


class _Walk:
    """Goes through the frames once, and checks each index entry at the frame that it names."""

    def __init__(
        self, data: memoryview, header: dict[str, int], expected: Expected, findings: Findings
    ) -> None:
        self.data = data
        self.header = header
        self.expected = expected
        self.findings = findings
        self.position = DATA_START
        self.next_offset = header["base_offset"]
        self.max_timestamp = _NO_TIMESTAMP
        self.end: Frame | None = None
        self.limit = len(data) if expected.certain_end is None else expected.certain_end
        self._entries = index_entries(data, header["bytes"], findings)
        self._next_entry = 0

    def run(self, progress: Callable[[int], None]) -> None:
        """Walk to the end frame, to the limit or to the first frame that is not whole."""
        reported = self.position
        while self.position < self.limit and self.end is None:
            try:
                self._step()
            except InvalidFrameError as error:
                self._stop_at(error)
                break
            if self.position - reported >= 1 << 20:
                progress(self.position - reported)
                reported = self.position
        progress(len(self.data) - reported)
        self._check_entries_left()

    def _step(self) -> None:
        frame = read_frame(self.data, self.position, self.limit, self.header["seed"])
        self._check_offset(frame)
        if frame.bare_value and not self.expected.bare_values:
            self.findings.add(self.position, "the value has no checksum, in a replicated topic")
        self._check_entries_at(frame)
        if frame.type == TYPE_END:
            self.end = frame
            return
        if frame.carries_offset:
            self.next_offset = frame.offset + 1
            self.max_timestamp = max(self.max_timestamp, frame.timestamp)
        elif frame.type == TYPE_PAD:  # a gap says which records were lost: it is no damage itself
            self.next_offset = max(self.next_offset, frame.producer)
        self.position += frame.size

    def _check_offset(self, frame: Frame) -> None:
        wrong = frame.offset != self.next_offset
        if not self.expected.dense:
            wrong = frame.offset < self.next_offset
        if wrong:
            what = f"frame has offset {frame.offset}, expected {self.next_offset}"
            self.findings.add(self.position, what)

    def _stop_at(self, error: InvalidFrameError) -> None:
        """A frame that is not whole ends the log, unless it must be there."""
        certain = self.expected
        if certain.certain_end is not None or self.next_offset < certain.certain_offset:
            what = f"frame of offset {self.next_offset} is invalid: {error.reason}"
            self.findings.add(error.position, what)

    def _check_entries_at(self, frame: Frame) -> None:
        while self._next_entry < len(self._entries):
            at, position, relative, timestamp = self._entries[self._next_entry]
            if position > frame.position:
                return
            self._next_entry += 1
            if position < frame.position:
                self.findings.add(at, f"index entry names position {position}, no frame starts it")
                continue
            base = self.header["base_offset"]
            self.findings.expect(at, "indexed offset", base + relative, frame.offset)
            self.findings.expect(at, "indexed max_timestamp", timestamp, self.max_timestamp)

    def _check_entries_left(self) -> None:
        """Entries behind the end frame lie; at an open end they may be ahead of the frames."""
        if self.end is None:
            return
        for at, position, _, _ in self._entries[self._next_entry :]:
            what = f"index entry names position {position}, the frames end at {self.position}"
            self.findings.add(at, what)


def index_entries(
    data: memoryview, size: int, findings: Findings
) -> list[tuple[int, int, int, int]]:
    """(place of the entry, position, relative offset, timestamp) of every entry that is set.

    Entry i speaks of the i-th part of the `size` bytes, so they ascend, with holes.
    """
    entries = []
    interval = max(size // _INDEX_ENTRIES, 1)
    for slot in range(_INDEX_ENTRIES):
        at = _INDEX_AT + slot * _ENTRY.size
        position, relative, timestamp = _ENTRY.values(data, at)
        if position == 0:
            continue
        if position // interval == slot:
            entries.append((at, position, relative, timestamp))
        else:
            findings.add(at, f"index entry names position {position}, not one of its own range")
    return entries


def _check_seal(header: dict[str, int], walk: _Walk, findings: Findings) -> None:
    """The seal is a cache of what the end frame says; an unsealed header is always right."""
    if header["end_offset"] == 0:
        return
    at = HEADER.offsets
    if walk.end is None:  # noted already, or torn off legally
        return
    findings.expect(at["end_offset"], "sealed end_offset", header["end_offset"], walk.next_offset)
    findings.expect(
        at["end_position"], "sealed end_position", header["end_position"], walk.position
    )
    findings.expect(
        at["max_timestamp"], "sealed max_timestamp", header["max_timestamp"], walk.max_timestamp
    )
