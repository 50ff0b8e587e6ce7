"""Entries of a group's offset table: two copies as bytes, and what they say together. Pure.

     0     4     8           12         16         24       32           40          48   64    256
    +-----+-----+-----------+----------+----------+--------+------------+-----------+----+-------+
    | crc |topic| partition | metadata | sequence | offset | generation | timestamp | 0  | meta- |
    |     | id  |           | length   |          |        | of group   | (ns)      |    | data  |
    +-----+-----+-----------+----------+----------+--------+------------+-----------+----+-------+

A copy is valid if and only if its topic is not 0, its length fits and the CRC32C of bytes 4..255 is
the stored one. Of two valid copies the one with the larger sequence counts.
"""

import struct
from typing import NamedTuple

from bus.assignment import Partition
from bus.errors import OffsetMetadataTooLargeError
from bus.fields import Fields
from bus.native.core import LAYOUT, crc32c

#: bytes of UTF-8 that the metadata of one commit may have
METADATA_BYTES_MAX = 192
#: an entry with this offset holds none: it was deleted, and may be used for another partition
NO_OFFSET = -1

_ENTRY_FORMATS = {
    "crc": "I",
    "topic": "I",
    "partition": "I",
    "metadata_length": "I",
    "sequence": "Q",
    "offset": "q",
    "generation": "Q",
    "timestamp": "q",
}
_ENTRY = Fields("bus_offset_entry", _ENTRY_FORMATS)
_METADATA_AT = LAYOUT["bus_offset_entry.metadata"]
_CRC_FROM = LAYOUT["bus_offset_entry.topic"]
#: size of one copy
ENTRY_BYTES = _ENTRY.size
_EMPTY = bytes(ENTRY_BYTES)


class Committed(NamedTuple):
    """The newest commit of one partition. `timestamp_ns` is wall-clock time of the commit."""

    offset: int
    metadata: str
    generation: int
    timestamp_ns: int


class Copy(NamedTuple):
    """One valid copy."""

    sequence: int
    partition: Partition
    committed: Committed


class Entry(NamedTuple):
    """An entry as it stands: its newest valid copy, and which copy the next write overwrites."""

    newest: Copy | None
    next_copy: int
    unused: bool

    @property
    def free(self) -> bool:
        """True if it may be given to any partition. A damaged entry is kept, as evidence."""
        if self.newest is None:
            return self.unused
        return self.newest.committed.offset == NO_OFFSET


def encode_metadata(metadata: str) -> bytes:
    """A commit's metadata as stored. Raises OffsetMetadataTooLargeError beyond 192 bytes."""
    data = metadata.encode()
    if len(data) > METADATA_BYTES_MAX:
        raise OffsetMetadataTooLargeError(
            f"commit metadata of {len(data)} bytes (UTF-8) is too large;"
            f" at most {METADATA_BYTES_MAX} bytes are kept per partition"
        )
    return data


def entry_of(first: bytes, second: bytes) -> Entry:
    """What the two copies of an entry say together."""
    copies = (_decode(first), _decode(second))
    sequences = [copy.sequence if copy else 0 for copy in copies]
    newest = 0 if sequences[0] >= sequences[1] else 1
    return Entry(copies[newest], 1 - newest, first == second == _EMPTY)


def _decode(data: bytes) -> Copy | None:
    """A valid copy, or None."""
    if len(data) < ENTRY_BYTES:
        return None
    crc, topic, partition, length, sequence, offset, generation, timestamp = _ENTRY.values(data)
    if topic == 0 or length > METADATA_BYTES_MAX or crc != crc32c(memoryview(data)[_CRC_FROM:]):
        return None
    metadata = data[_METADATA_AT : _METADATA_AT + length].decode(errors="replace")
    committed = Committed(offset, metadata, generation, timestamp)
    return Copy(sequence, (topic, partition), committed)


def encode_copy(
    sequence: int, partition: Partition, committed: Committed, metadata: bytes
) -> bytes:
    """A copy as stored; `metadata` is taken from the encoded argument, not from `committed`."""
    data = bytearray(ENTRY_BYTES)
    data[_METADATA_AT : _METADATA_AT + len(metadata)] = metadata
    values = (
        *partition,
        len(metadata),
        sequence,
        committed.offset,
        committed.generation,
        committed.timestamp_ns,
    )
    for name, value in zip(_ENTRY.names[1:], values, strict=True):
        struct.pack_into("<" + _ENTRY_FORMATS[name], data, _ENTRY.offsets[name], value)
    struct.pack_into("<I", data, _ENTRY.offsets["crc"], crc32c(memoryview(data)[_CRC_FROM:]))
    return bytes(data)
