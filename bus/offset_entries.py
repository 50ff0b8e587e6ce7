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
from bus.native.core import LAYOUT, crc32c

#: bytes of UTF-8 that the metadata of one commit may have
METADATA_BYTES_MAX = 192
#: a copy with this offset says that there is no commit: a deletion on its way
NO_OFFSET = -1

# One struct for all of it, because a commit packs one and unpacks two for every partition.
_ENTRY = struct.Struct("<IIIIQqQq16x192s")
_FIELDS = {
    "crc": 0,
    "topic": 4,
    "partition": 8,
    "metadata_length": 12,
    "sequence": 16,
    "offset": 24,
    "generation": 32,
    "timestamp": 40,
    "metadata": 64,
}
if _ENTRY.size != LAYOUT["sizeof.bus_offset_entry"] or any(
    LAYOUT[f"bus_offset_entry.{field}"] != at for field, at in _FIELDS.items()
):
    raise ImportError("bus_offset_entry in layout.h has changed: offset_entries.py packs another")

#: size of one copy
ENTRY_BYTES = _ENTRY.size
_CRC = struct.Struct("<I")
#: a copy of a free entry
EMPTY = bytes(ENTRY_BYTES)


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
    """An entry as it stands: its newest valid copy, and which copy the next write overwrites.

    `free` if both copies are empty. `damaged` if both were written and neither is valid: a commit
    was there and is lost. (One empty copy and one that is not valid: a first commit that a death
    cut short, for it writes both.) `named` are the partitions that damaged copies seem to speak of.
    """

    newest: Copy | None
    next_copy: int
    free: bool
    damaged: bool = False
    named: frozenset[Partition] = frozenset()

    @property
    def committed(self) -> Committed | None:
        """The commit that counts; None if there is none, or it was deleted."""
        if self.newest is None or self.newest.committed.offset == NO_OFFSET:
            return None
        return self.newest.committed


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
    if copies[newest] is None and EMPTY not in (first, second):
        return Entry(None, 0, False, True, frozenset(map(_named, (first, second))))
    return Entry(copies[newest], 1 - newest, first == second == EMPTY)


def _named(data: bytes) -> Partition:
    _, topic, number, *_ = _ENTRY.unpack(data.ljust(ENTRY_BYTES, b"\0"))
    return topic, number


def _decode(data: bytes) -> Copy | None:
    """A valid copy, or None."""
    if len(data) < ENTRY_BYTES:
        return None
    crc, topic, number, length, sequence, offset, generation, timestamp, text = _ENTRY.unpack(data)
    if topic == 0 or length > METADATA_BYTES_MAX or crc != crc32c(memoryview(data)[_CRC.size :]):
        return None
    metadata = text[:length].decode(errors="replace") if length else ""
    return Copy(sequence, (topic, number), Committed(offset, metadata, generation, timestamp))


def encode_copy(
    sequence: int,
    partition: Partition,
    offset: int,
    metadata: bytes,
    *,
    generation: int,
    timestamp_ns: int,
) -> bytes:
    """A copy as stored; `metadata` is what `encode_metadata` returned."""
    length = len(metadata)
    data = bytearray(
        _ENTRY.pack(0, *partition, length, sequence, offset, generation, timestamp_ns, metadata)
    )
    _CRC.pack_into(data, 0, crc32c(memoryview(data)[_CRC.size :]))
    return bytes(data)
