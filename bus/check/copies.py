"""Hot segments against their durable copies: the same bytes, as far as both go."""

from pathlib import Path

from bus.check.damage import Findings
from bus.check.files import mapped
from bus.check.hot import HotPartition, HotSlot, holds
from bus.check.partition import DurableLog
from bus.check.segment import HEADER, SegmentFacts
from bus.frames import DATA_START
from bus.native.core import LAYOUT

#: Bytes compared at once; the first difference is looked for only inside a part that differs.
_PART = 1 << 20
#: The header's fields up to the seal are written once; the seal and the index are caches.
_HEADER_BYTES = HEADER.offsets["end_offset"]


def check_copies(
    hot: HotPartition, ring: dict[int, SegmentFacts], durable: DurableLog, findings: Findings
) -> None:
    """Every hot segment that has a durable file must agree with it, header and frames."""
    copies = {facts.number: facts for facts in durable.segments}
    for slot in hot.slots:
        if slot.number in ring and slot.number in copies:
            end = min(ring[slot.number].end_position, copies[slot.number].end_position)
            file = durable.files[slot.number]
            _compare(hot, slot, file, end, findings.inside(f"{findings.file}/{file.name}"))


def check_limit(hot: HotPartition, durable: DurableLog, findings: Findings) -> None:
    """Offsets may be given out up to a limit that is on disk already, never beyond it."""
    if durable.state is not None and hot.offset_limit > durable.state.offset_limit:
        what = f"offset_limit {hot.offset_limit} is above the one on disk"
        at = LAYOUT["bus_partition.offset_limit"]
        findings.add(at, f"{what}, {durable.state.offset_limit}")


def _compare(hot: HotPartition, slot: HotSlot, file: Path, end: int, findings: Findings) -> None:
    try:
        with mapped(hot.file(slot)) as original, mapped(file) as copy:
            at = _first_difference(original, copy, end)
    except OSError:  # recycled or removed by retention since it was checked
        return
    if at is not None and holds(hot, slot):
        findings.add(at, f"differs from the hot segment {hot.file(slot)}")


def _first_difference(original: memoryview, copy: memoryview, end: int) -> int | None:
    parts = [(0, _HEADER_BYTES)]
    parts += [(start, min(start + _PART, end)) for start in range(DATA_START, end, _PART)]
    for start, stop in parts:
        left, right = bytes(original[start:stop]), bytes(copy[start:stop])
        if left != right:
            pairs = enumerate(zip(left, right, strict=True))
            return start + next(at for at, (one, other) in pairs if one != other)
    return None
