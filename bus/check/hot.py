"""The hot tier of one partition: its control file, its ring, and every frame in the ring.

The bus may be running while this looks. Nothing here stores a word: the tail is read with an
acquire load, and a segment that was recycled during the check is left out (its number in the ring
is compared before and after), because what was read then belongs to no single moment.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bus import files
from bus.check.damage import Findings
from bus.check.files import mapped
from bus.check.partition import check_chain
from bus.check.segment import HEADER, Expected, SegmentFacts, check_segment
from bus.errors import UnsafeDirectoryError
from bus.fields import Fields
from bus.native.core import LAYOUT, Table

_CONTROL = Fields(
    "bus_partition",
    {
        "magic": "Q",
        "version": "I",
        "bytes": "I",
        "bus_id": "Q",
        "topic_id": "Q",
        "partition": "I",
        "flags": "I",
        "offset_limit": "Q",
        "log_start_offset": "Q",
    },
)
_END = Fields("bus_end", {"tail": "Q", "next_offset": "Q", "max_timestamp": "q"})
_SLOT = Fields(
    "bus_ring_slot", {"serial": "Q", "bytes": "Q", "base_offset": "Q", "end_offset": "Q"}
)
_AT = {
    name: LAYOUT[f"bus_partition.{name}"]
    for name in ("tail", "ends", "high_watermark", "ring_numbers", "ring", "flags")
}
_SLOTS = LAYOUT["BUS_RING_SLOTS"]
_REPLICATED = LAYOUT["BUS_FLAG_REPLICATED"]
_EVERYTHING = 2**63
#: A tail that moves under the reader's eyes is read again; this often is a broken file.
_TRIES = 1000


@dataclass(frozen=True, slots=True)
class HotSlot:
    """One file of the ring: `number` 0 means that it holds no segment now."""

    index: int
    serial: int
    bytes: int
    number: int
    base_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class HotPartition:
    """A partition's control file at one moment, and what the frames in its ring say."""

    path: Path
    replicated: bool
    high_watermark: int
    log_end_offset: int
    log_start_offset: int
    offset_limit: int
    tail: tuple[int, int]
    slots: tuple[HotSlot, ...]

    def durable_end(self) -> int:
        """The offset that the durable files must reach: the watermark, or what lies before it.

        A recovery begins a log above a gap in the offsets, and with the watermark there.
        """
        if self.log_start_offset >= self.high_watermark:
            return 0  # nothing that counts is below the watermark
        at = [s for s in self.slots if s.number and s.base_offset == self.high_watermark]
        if not at:
            return self.high_watermark
        try:
            with mapped(self.file(min(at, key=lambda slot: slot.number))) as data:
                return min(HEADER.read(data)["previous_end"], self.high_watermark)
        except OSError:  # recycled meanwhile: so the durable log went on beyond the watermark
            return self.high_watermark

    def file(self, slot: HotSlot) -> Path:
        """The segment file in a slot: TOPIC-P.SERIAL.seg beside TOPIC-P.ctl."""
        return self.path.with_name(f"{self.path.stem}.{slot.serial}.seg")


@contextmanager
def control_table(path: Path) -> Iterator[Table]:
    """A control file, mapped read-only. Raises OSError."""
    fd = files.open_own(path, os.O_RDONLY)
    try:
        yield Table(fd, os.fstat(fd).st_size, writable=False)
    finally:
        os.close(fd)


def read_hot(path: Path, expected: Expected, findings: Findings) -> HotPartition | None:
    """Read and check a partition's control file; None if nothing in it can be trusted."""
    with control_table(path) as table:
        if len(table.view) < _CONTROL.size:
            findings.add(len(table.view), f"a control file has {_CONTROL.size} bytes")
            return None
        if not _check_identity(table, expected, findings):
            return None
        # The watermark first: whatever is on disk afterwards must reach it.
        watermark = table.load_acquire(_AT["high_watermark"])
        tail, next_offset = read_tail(table, findings)
        fields = _CONTROL.read(table.view)
        hot = HotPartition(
            path,
            bool(fields["flags"] & _REPLICATED),
            watermark,
            next_offset,
            fields["log_start_offset"],
            fields["offset_limit"],
            (tail >> 32, tail & 0xFFFFFFFF),
            tuple(_read_slots(table)),
        )
    _check_bounds(hot, findings)
    return hot


def read_tail(table: Table, findings: Findings) -> tuple[int, int]:
    """The tail and the log end that belongs to it, both of one moment."""
    for _ in range(_TRIES):
        tail = table.load_acquire(_AT["tail"])
        for which in range(2):
            end = _END.read(table.view, _AT["ends"] + which * _END.size)
            if end["tail"] == tail and table.load_acquire(_AT["tail"]) == tail:
                return tail, end["next_offset"]
    findings.add(_AT["ends"], f"neither end belongs to the tail {tail >> 32}:{tail & 0xFFFFFFFF}")
    return tail, 0


def _check_identity(table: Table, expected: Expected, findings: Findings) -> bool:
    at, found = _CONTROL.offsets, _CONTROL.read(table.view)
    wanted = {
        "magic": LAYOUT["BUS_MAGIC_PARTITION"],
        "version": LAYOUT["BUS_LAYOUT_VERSION"],
        "bytes": _CONTROL.size,
        "bus_id": expected.bus_id,
        "topic_id": expected.topic_id,
        "partition": expected.partition,
    }
    good = [findings.expect(at[name], name, found[name], value) for name, value in wanted.items()]
    return all(good)


def _read_slots(table: Table) -> Iterator[HotSlot]:
    for index in range(_SLOTS):
        number = table.load_acquire(_AT["ring_numbers"] + 8 * index)
        slot = _SLOT.read(table.view, _AT["ring"] + index * _SLOT.size)
        if number or slot["serial"]:
            yield HotSlot(
                index,
                slot["serial"],
                slot["bytes"],
                number,
                slot["base_offset"],
                slot["end_offset"],
            )


def _check_bounds(hot: HotPartition, findings: Findings) -> None:
    end = hot.log_end_offset
    for name, value in (
        ("high_watermark", hot.high_watermark),
        ("log_start_offset", hot.log_start_offset),
    ):
        if value > end:
            findings.add(LAYOUT[f"bus_partition.{name}"], f"{name} {value} is above log end {end}")
    # A stop that keeps the log leaves it closed for new records, with a limit of 0.
    if end > hot.offset_limit > 0:
        at = _CONTROL.offsets["offset_limit"]
        findings.add(at, f"offset_limit {hot.offset_limit} is below the log end {end}")


def check_ring(
    hot: HotPartition, expected: Expected, findings: Findings, progress: Callable[[int], None]
) -> dict[int, SegmentFacts]:
    """Check every segment of the ring; the facts by segment number."""
    _check_slots(hot, findings)
    facts = {}
    active = hot.tail[0]
    for slot in sorted(hot.slots, key=lambda slot: slot.number):
        if 0 < slot.number <= active and slot.serial:
            found = _check_slot(hot, slot, expected, findings, progress)
            if found:
                facts[slot.number] = found
    check_chain(list(facts.values()), findings, dense=True)
    return facts


def _check_slots(hot: HotPartition, findings: Findings) -> None:
    """Every number once, without holes up to the tail's; every file under its own serial."""
    active = hot.tail[0]
    numbers = sorted(slot.number for slot in hot.slots if slot.number)
    # A roller that died left a prepared slot behind the active one: the next roller takes it over.
    settled = [number for number in numbers if number != active + 1]
    at = _AT["ring_numbers"]
    if not settled or settled[-1] != active:
        findings.add(at, f"the tail is in segment {active}, the ring holds {settled}")
    elif settled != list(range(settled[0], active + 1)) and _still(hot, settled):
        findings.add(at, f"the ring's segments do not follow each other: {settled}")
    serials = [slot.serial for slot in hot.slots if slot.serial]
    if len(set(serials)) != len(serials):
        findings.add(_AT["ring"], f"two ring slots share a file: serials {sorted(serials)}")
    for slot in hot.slots:
        if slot.number and not slot.serial:
            where = _AT["ring"] + slot.index * _SLOT.size
            findings.add(where, f"ring slot {slot.index} has segment {slot.number} but no file")


def _still(hot: HotPartition, numbers: list[int]) -> bool:
    """Whether the ring holds the same segments now: else it was read while it moved."""
    with control_table(hot.path) as table:
        now = sorted(slot.number for slot in _read_slots(table) if slot.number)
    return set(numbers) <= set(now)


def _check_slot(
    hot: HotPartition,
    slot: HotSlot,
    expected: Expected,
    findings: Findings,
    progress: Callable[[int], None],
) -> SegmentFacts | None:
    """Check the segment in a slot; None, and nothing noted, if it was recycled meanwhile."""
    file = hot.file(slot)
    noted = Findings(str(file))
    facts = None
    try:
        with mapped(file) as data:
            noted.expect(0, "file size", len(data), slot.bytes)
            facts = check_segment(data, _wanted(hot, slot, expected), noted, progress)
    except OSError as error:
        noted.add(0, f"cannot be read: {error.strerror}")
    except UnsafeDirectoryError as error:
        noted.add(0, str(error))
    if facts and not noted.damages:
        _check_against_slot(hot, slot, facts, noted)
    if not holds(hot, slot):
        return None
    findings.damages.extend(noted.damages)
    return facts


def _wanted(hot: HotPartition, slot: HotSlot, expected: Expected) -> Expected:
    end = hot.tail[1] if slot.number == hot.tail[0] else None
    return replace(expected, certain_offset=_EVERYTHING, certain_end=end)


def _check_against_slot(
    hot: HotPartition, slot: HotSlot, facts: SegmentFacts, findings: Findings
) -> None:
    active = slot.number == hot.tail[0]
    end = hot.log_end_offset if active else slot.end_offset
    findings.expect(0, "segment number", facts.number, slot.number)
    findings.expect(0, "base_offset", facts.base_offset, slot.base_offset)
    findings.expect(facts.end_position, "end of the frames' offsets", facts.next_offset, end)
    if active:
        findings.expect(facts.end_position, "end of the frames", facts.end_position, hot.tail[1])


def holds(hot: HotPartition, slot: HotSlot) -> bool:
    """Whether the slot still holds the segment that it held when it was read."""
    try:
        with control_table(hot.path) as table:
            number = table.load_acquire(_AT["ring_numbers"] + 8 * slot.index)
            serial = _SLOT.read(table.view, _AT["ring"] + slot.index * _SLOT.size)["serial"]
    except OSError:  # the topic was deleted, or the bus stopped
        return False
    return (number, serial) == (slot.number, slot.serial)
