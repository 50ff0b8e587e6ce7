"""A group's offsets file: its header, and both copies of every entry.

A commit overwrites the older of two copies, so one copy may be torn by a kill or a power cut, and
the other one counts: that is the design, not damage. Damage is an entry of which no copy is
valid, copies that speak of different partitions, and an offset that was never given out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bus.check.damage import Findings
from bus.check.files import mapped
from bus.errors import BusError
from bus.fields import Fields
from bus.native.core import LAYOUT, crc32c

_HEADER = Fields(
    "bus_offsets",
    {
        "magic": "Q",
        "version": "I",
        "header_crc": "I",
        "bus_id": "Q",
        "group_id": "Q",
        "name_length": "I",
    },
)
_ENTRY = Fields(
    "bus_offset_entry",
    {
        "crc": "I",
        "topic": "I",
        "partition": "I",
        "metadata_length": "I",
        "sequence": "Q",
        "offset": "q",
    },
)
_PAGE = LAYOUT["BUS_PAGE"]
_PER_PAGE = LAYOUT["BUS_OFFSETS_PER_PAGE"]
_NAME_AT = LAYOUT["bus_offsets.name"]
_NAME_MAX = 256
_METADATA_MAX = _ENTRY.size - LAYOUT["bus_offset_entry.metadata"]


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """The newest valid copy of one entry, and where it stands in the file."""

    topic_id: int
    partition: int
    offset: int
    position: int


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """What a group's offsets file holds."""

    name: str
    group_id: int
    file: str
    committed: tuple[CommittedOffset, ...]


def check_offsets(path: Path, name: str, bus_id: int, findings: Findings) -> GroupOffsets | None:
    """Check a group's offsets file; None if its header cannot be trusted.

    Raises FileNotFoundError if it is gone.
    """
    try:
        with mapped(path) as view:
            data = bytes(view)
    except (BusError, IsADirectoryError) as error:
        findings.add(0, str(error))
        return None
    if len(data) < _PAGE:
        findings.add(len(data), f"the file is shorter than its header ({_PAGE} bytes)")
        return None
    group_id = _check_header(data, name, bus_id, findings)
    if group_id is None:
        return None
    if (len(data) - _PAGE) % (2 * _PAGE):
        findings.add(len(data), f"{len(data)} bytes are no header and whole pairs of pages")
    return GroupOffsets(name, group_id, findings.file, tuple(_check_entries(data, findings)))


def _check_header(data: bytes, name: str, bus_id: int, findings: Findings) -> int | None:
    at, header = _HEADER.offsets, _HEADER.read(data)
    crc = crc32c(data[at["bus_id"] : _PAGE])
    readable = [
        findings.expect(0, "magic", hex(header["magic"]), hex(LAYOUT["BUS_MAGIC_OFFSETS"])),
        findings.expect(at["version"], "version", header["version"], LAYOUT["BUS_LAYOUT_VERSION"]),
        findings.expect(at["header_crc"], "header CRC32C", hex(header["header_crc"]), hex(crc)),
    ]
    if not all(readable):
        return None
    findings.expect(at["bus_id"], "bus_id", header["bus_id"], bus_id)
    stored = data[_NAME_AT : _NAME_AT + min(header["name_length"], _NAME_MAX)]
    findings.expect(_NAME_AT, "group name", stored.decode(errors="replace"), name)
    return header["group_id"]


def _check_entries(data: bytes, findings: Findings) -> Iterator[CommittedOffset]:
    taken: dict[tuple[int, int], int] = {}
    for pair in range(_PAGE, len(data) - 2 * _PAGE + 1, 2 * _PAGE):
        for slot in range(_PER_PAGE):
            at = pair + slot * _ENTRY.size
            entry = _check_entry(data, at, findings)
            if entry is None:
                continue
            owner = (entry.topic_id, entry.partition)
            if owner in taken:
                what = f"topic id {owner[0]} partition {owner[1]} is at {taken[owner]} too"
                findings.add(entry.position, what)
            taken[owner] = entry.position
            yield entry


def _check_entry(data: bytes, at: int, findings: Findings) -> CommittedOffset | None:
    """The newest valid copy of the entry whose first copy is at `at`; None if it is free."""
    places = (at, at + _PAGE)
    written = [place for place in places if any(data[place : place + _ENTRY.size])]
    valid = [(place, _ENTRY.read(data, place)) for place in written if _is_valid(data, place)]
    if not valid:
        if len(written) == len(places):
            findings.add(at, f"neither copy of the entry (at {at} and {at + _PAGE}) is valid")
        return None
    if len({(entry["topic"], entry["partition"]) for _, entry in valid}) > 1:
        findings.add(at, f"the copies at {at} and {at + _PAGE} speak of different partitions")
    if len(valid) > 1 and valid[0][1]["sequence"] == valid[1][1]["sequence"]:
        findings.add(at, f"both copies of the entry have sequence {valid[0][1]['sequence']}")
    place, entry = max(valid, key=lambda copy: copy[1]["sequence"])
    if entry["metadata_length"] > _METADATA_MAX:
        findings.add(place, f"metadata_length {entry['metadata_length']} is over {_METADATA_MAX}")
    if entry["offset"] < -1:
        findings.add(place, f"committed offset is {entry['offset']}")
    if entry["topic"] == 0:
        return None
    return CommittedOffset(entry["topic"], entry["partition"], entry["offset"], place)


def _is_valid(data: bytes, at: int) -> bool:
    entry = _ENTRY.read(data, at)
    return crc32c(data[at + 4 : at + _ENTRY.size]) == entry["crc"]


def check_reach(
    groups: list[GroupOffsets], ends: Mapping[tuple[int, int], int], findings: Findings
) -> None:
    """No group may have committed an offset above the log end. `ends`: by topic id, partition.

    A partition that is not in `ends` is not checked: its topic is gone, or its end is not certain.
    """
    for group in groups:
        for entry in group.committed:
            end = ends.get((entry.topic_id, entry.partition))
            if end is not None and entry.offset > end:
                what = f"offset {entry.offset} is committed, the log of topic id {entry.topic_id}"
                where = findings.inside(group.file)
                where.add(entry.position, f"{what} partition {entry.partition} ends at {end}")
