"""The offset table of a group, groups/NAME.offsets: how far the group has read. Truth.

    page 0           header: magic, version, CRC, bus id, group id, name     (bus_offsets)
    page 1, page 2   copy 0, copy 1 of entries 0..15                         (bus_offset_entry)
    page 3, page 4   copy 0, copy 1 of entries 16..31, and so on

    groups/NAME.offsets.copy   the commits of a while ago: see bus/offset_copies.py

Of an entry the valid copy with the larger sequence counts (see offset_entries.py); a commit
overwrites the other one. A deletion is a commit of "no offset"; then the copy before it is cleared,
and then that one: the entry is free. Cut short at any point, the partition has no commit.

Guarantees: whatever instant a writer or the power dies at, every entry says what it said before
or after the write; a damaged copy costs at most the last commit of that partition.

Assumes: writers hold the mutex of the group's members table. Readers need not: they may see a copy
half written, and then the other one counts.

Entries are read and written with pread and pwrite, not through a mapping (0.7 µs each, measured):
a full or failing disk is then an exception instead of SIGBUS, and a file that another process has
grown needs no new mapping. Nothing here is a committed promise to be on the disk: the broker syncs
the file every `offsets_sync_ms`. Offsets never repeat (see `offset_limit` of a partition), so an
offset that survived a power loss when its records did not points into a known gap, not at others.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from bus import files
from bus.assignment import Partition
from bus.directory import offsets_name
from bus.errors import (
    CorruptSegmentError,
    DirectoryError,
    GroupIdNotFoundError,
    InvalidGroupIdError,
)
from bus.fields import Fields
from bus.group_ids import check_group_id
from bus.native.core import LAYOUT, crc32c
from bus.offset_damage import refuse_lost
from bus.offset_entries import (
    EMPTY,
    ENTRY_BYTES,
    NO_OFFSET,
    Committed,
    Entry,
    encode_copy,
    entry_of,
)

_PAGE = LAYOUT["BUS_PAGE"]
_PER_PAGE = LAYOUT["BUS_OFFSETS_PER_PAGE"]
_MAGIC = LAYOUT["BUS_MAGIC_OFFSETS"]
_VERSION = LAYOUT["BUS_LAYOUT_VERSION"]
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
_NAME_AT = LAYOUT["bus_offsets.name"]
_HEADER_CRC_FROM = LAYOUT["bus_offsets.bus_id"]


class OffsetsHeader(NamedTuple):
    """Whose offsets a file holds."""

    bus_id: int
    group_id: int
    name: str


def create_offsets_file(groups_fd: int, group: str, *, bus_id: int, group_id: int) -> bool:
    """Make the offset table of a new group durably; False if it is there already."""
    return files.write_new(
        groups_fd, offsets_name(group), header_page(group, bus_id, group_id) + bytes(2 * _PAGE)
    )


def replace_offsets_file(groups_fd: int, group: str) -> None:
    """The same commits in another file: who has the table open writes into one without a name.

    Raises DirectoryError, NoSpaceError; then the file is the one that it was.
    """
    name = offsets_name(group)
    data = files.read_bytes(groups_fd, name)
    if data is not None:
        files.write_atomic(groups_fd, name, data)


def header_page(group: str, bus_id: int, group_id: int) -> bytes:
    """The first page of an offset table."""
    name = check_group_id(group).encode()
    page = bytearray(_PAGE)
    page[_NAME_AT : _NAME_AT + len(name)] = name
    values = {
        "magic": ("Q", _MAGIC),
        "version": ("I", _VERSION),
        "bus_id": ("Q", bus_id),
        "group_id": ("Q", group_id),
        "name_length": ("I", len(name)),
    }
    for field, (code, value) in values.items():
        struct.pack_into("<" + code, page, _HEADER.offsets[field], value)
    crc = crc32c(memoryview(page)[_HEADER_CRC_FROM:])
    struct.pack_into("<I", page, _HEADER.offsets["header_crc"], crc)
    return bytes(page)


def read_offsets_header(fd: int) -> OffsetsHeader:
    """Check and read the first page. Raises CorruptSegmentError naming file and field."""
    page = os.pread(fd, _PAGE, 0)
    name = files.path_of(fd)
    if len(page) < _PAGE:
        raise CorruptSegmentError(f"{name}: {len(page)} bytes are too few for an offset table")
    fields = _HEADER.read(page)
    expected = {
        "magic": _MAGIC,
        "version": _VERSION,
        "header_crc": crc32c(memoryview(page)[_HEADER_CRC_FROM:]),
    }
    for field, value in expected.items():
        if fields[field] != value:
            raise CorruptSegmentError(
                f"{name}: {field} of the offset table is {fields[field]:#x}, expected {value:#x};"
                " restore the file from a backup, or delete it to start the group anew"
            )
    try:
        group = check_group_id(page[_NAME_AT : _NAME_AT + fields["name_length"]].decode())
    except (UnicodeDecodeError, InvalidGroupIdError) as error:
        raise CorruptSegmentError(
            f"{name}: name of the offset table is no group: {error}"
        ) from error
    return OffsetsHeader(fields["bus_id"], fields["group_id"], group)


class OffsetTable:
    """The commits of one group. Make it with `open`; writers hold the group's mutex."""

    def __init__(self, fd: int) -> None:
        """Take over `fd`, a readable (for `put`: writable) offset table; `close` closes it."""
        self.header = read_offsets_header(fd)
        self._fd = fd
        self._path = files.path_of(fd)
        #: where each partition's entry was last seen; checked at every use
        self._index: dict[Partition, int] = {}

    @classmethod
    def open(cls, groups_fd: int, group: str, *, writable: bool = True) -> Self:
        """The table of `group`. Raises GroupIdNotFoundError, CorruptSegmentError."""
        flags = os.O_RDWR if writable else os.O_RDONLY
        try:
            fd = files.open_file(offsets_name(group), flags, dir_fd=groups_fd)
        except DirectoryError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise GroupIdNotFoundError(
                    f"group {group!r} does not exist; a consumer with this group_id creates it"
                ) from error
            raise
        return cls._owning(fd)

    @classmethod
    def open_path(cls, path: str | Path, *, writable: bool = False) -> Self:
        """The table in file `path`."""
        flags = os.O_RDWR if writable else os.O_RDONLY
        with files.explained(str(path)):
            fd = files.open_own(Path(path), flags)
        return cls._owning(fd)

    @classmethod
    def _owning(cls, fd: int) -> Self:
        try:
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def read(self) -> dict[Partition, Committed]:
        """All commits of the group."""
        found = {}
        for _, entry in self._scan():
            if entry.newest and entry.committed:
                found[entry.newest.partition] = entry.committed
        return found

    def get(self, partitions: Iterable[Partition]) -> dict[Partition, Committed | None]:
        """The commits of some partitions; None where there is none.

        Raises CorruptSegmentError if one may be among those that were damaged in both copies: to
        read it as "no commit" would skip records, or all of them again, without a word.
        """
        found = {partition: self._located(partition) for partition in partitions}
        if None in found.values():
            self._reindex()
            found = {partition: self._located(partition) for partition in found}
            if missing := [one for one in found if found[one] is None]:
                refuse_lost(self._path, missing, self.damaged())
        return {partition: entry.committed if entry else None for partition, entry in found.items()}

    def ahead(self, lows: Mapping[Partition, int]) -> dict[Partition, tuple[int, bytes]]:
        """Of these offsets those that are above what is committed, as `put` takes them."""
        known = self.get(list(lows))
        return {
            partition: (low, b"")
            for partition, low in lows.items()
            if (before := known[partition]) is None or before.offset < low
        }

    def damaged(self) -> dict[int, Entry]:
        """The entries whose commits are lost, by number."""
        return {number: entry for number, entry in self._scan() if entry.damaged}

    def clear(self, number: int) -> None:
        """Free a damaged entry. The caller holds the group's mutex."""
        for copy in (0, 1):
            self._write(number, copy, EMPTY)

    def put(
        self, offsets: Mapping[Partition, tuple[int, bytes]], *, generation: int, timestamp_ns: int
    ) -> None:
        """Commit (offset, encoded metadata) for each partition; NO_OFFSET deletes.

        The caller holds the group's mutex. Each partition changes as a whole; a death in between
        leaves some partitions committed and the others as they were.
        """
        free: list[int] | None = None
        for partition, (offset, metadata) in offsets.items():
            entry = self._located(partition)
            if entry is None:
                # Under the mutex one scan tells the whole truth: what is not found is not there.
                free = self._reindex() if free is None else free
                if offset == NO_OFFSET and partition not in self._index:
                    continue
                entry = self._entry_for(partition, free)
            number = self._index[partition]
            # Both copies from the first commit on: a single one would be all that there is.
            copies = [entry.next_copy] + ([] if entry.newest else [1 - entry.next_copy])
            first = entry.newest.sequence + 1 if entry.newest else 1
            for sequence, copy in enumerate(copies, first):
                data = encode_copy(
                    sequence,
                    partition,
                    offset,
                    metadata,
                    generation=generation,
                    timestamp_ns=timestamp_ns,
                )
                self._write(number, copy, data)
            if offset == NO_OFFSET:
                self._write(number, 1 - entry.next_copy, EMPTY)
                self._write(number, entry.next_copy, EMPTY)
        if free is not None:
            self._clear_named(offsets)

    def _clear_named(self, committed: Iterable[Partition]) -> None:
        """What was damaged of these partitions counts no more: they have a commit again."""
        for number, entry in self.damaged().items():
            if not entry.named.isdisjoint(committed):
                self.clear(number)

    def _write(self, number: int, copy: int, data: bytes) -> None:
        with files.explained(self._path):
            os.pwrite(self._fd, data, _position(number, copy))

    def _entry_for(self, partition: Partition, free: list[int]) -> Entry:
        """The entry to write `partition` to: where the scan has found it, else a free one."""
        if partition not in self._index:
            self._index[partition] = free.pop(0) if free else self._grow(free)
        return self._load(self._index[partition])

    def sync(self) -> None:
        """Return when all commits so far are on the disk."""
        with files.explained(self._path):
            os.fdatasync(self._fd)

    def rewrite(self) -> None:
        """Write every page again as it is, so that the next sync has all of them to write.

        The caller holds the group's mutex.
        """
        with files.explained(self._path):
            for at in range(0, os.fstat(self._fd).st_size, _PAGE):
                os.pwrite(self._fd, os.pread(self._fd, _PAGE, at), at)

    def close(self) -> None:
        """Close the file. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # --------------------------------------------------------------------------- entries

    def _located(self, partition: Partition) -> Entry | None:
        """The entry of `partition` where it was last seen, None if it is not there any more."""
        number = self._index.get(partition)
        if number is None:
            return None
        entry = self._load(number)
        if entry.newest is None or entry.newest.partition != partition:
            del self._index[partition]
            return None
        return entry

    def _reindex(self) -> list[int]:
        """Look at every entry: learn where each partition is; return the free entries."""
        self._index.clear()
        free = []
        for number, entry in self._scan():
            if entry.free:
                free.append(number)
            elif entry.newest is not None:
                self._index[entry.newest.partition] = number
        return free

    def _scan(self) -> Iterator[tuple[int, Entry]]:
        for pair in range(self._pairs()):
            data = os.pread(self._fd, 2 * _PAGE, _PAGE + pair * 2 * _PAGE)
            for slot in range(len(data) // 2 // ENTRY_BYTES):
                at = slot * ENTRY_BYTES
                copies = (data[at : at + ENTRY_BYTES], data[_PAGE + at : _PAGE + at + ENTRY_BYTES])
                yield pair * _PER_PAGE + slot, entry_of(*copies)

    def _pairs(self) -> int:
        return (os.fstat(self._fd).st_size - _PAGE) // (2 * _PAGE)

    def _grow(self, free: list[int]) -> int:
        """Add a pair of pages; return its first entry, the others are added to `free`."""
        pairs = self._pairs()
        files.allocate(self._fd, _PAGE + (pairs + 1) * 2 * _PAGE)
        first = pairs * _PER_PAGE
        free.extend(range(first + 1, first + _PER_PAGE))
        return first

    def _load(self, number: int) -> Entry:
        return entry_of(
            os.pread(self._fd, ENTRY_BYTES, _position(number, 0)),
            os.pread(self._fd, ENTRY_BYTES, _position(number, 1)),
        )


def _position(number: int, copy: int) -> int:
    pair, slot = divmod(number, _PER_PAGE)
    return _PAGE + (2 * pair + copy) * _PAGE + slot * ENTRY_BYTES
