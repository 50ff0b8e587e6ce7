"""The offset table: commits against a dict, and what is left when a copy of an entry is damaged."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bus.assignment import Partition
from bus.errors import CorruptSegmentError, GroupIdNotFoundError, OffsetMetadataTooLargeError
from bus.native.core import LAYOUT
from bus.offset_entries import ENTRY_BYTES, NO_OFFSET, encode_metadata
from bus.offsets import OffsetTable, create_offsets_file, read_offsets_header

PAGE = LAYOUT["BUS_PAGE"]
GROUP = "billing/€"
PARTITIONS = st.tuples(st.integers(1, 4), st.integers(0, 12))
TEXTS = st.text(max_size=40)


@pytest.fixture
def groups_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def table(groups_fd: int) -> Iterator[OffsetTable]:
    create_offsets_file(groups_fd, GROUP, bus_id=7, group_id=3)
    opened = OffsetTable.open(groups_fd, GROUP)
    yield opened
    opened.close()


def commit(table: OffsetTable, partition: Partition, offset: int, metadata: str = "") -> None:
    table.put({partition: (offset, encode_metadata(metadata))}, generation=5, timestamp_ns=9)


def position(entry: int, copy: int) -> int:
    pair, slot = divmod(entry, LAYOUT["BUS_OFFSETS_PER_PAGE"])
    return PAGE + (2 * pair + copy) * PAGE + slot * ENTRY_BYTES


def overwrite(table: OffsetTable, at: int, data: bytes) -> None:
    assert os.pwrite(table._fd, data, at) == len(data)


# ---------------------------------------------------------------------------------- the file


def test_a_new_table_is_empty_and_knows_its_group(table):
    assert table.read() == {}
    assert table.header == (7, 3, GROUP)


def test_creating_a_table_that_is_there_leaves_it_alone(table, groups_fd):
    commit(table, (1, 0), 42)
    assert not create_offsets_file(groups_fd, GROUP, bus_id=8, group_id=4)
    assert OffsetTable.open(groups_fd, GROUP).read()[1, 0].offset == 42


def test_a_group_that_does_not_exist_is_named(groups_fd):
    with pytest.raises(GroupIdNotFoundError, match="'nobody'"):
        OffsetTable.open(groups_fd, "nobody")


@pytest.mark.parametrize(
    ("at", "field"), [(0, "magic"), (8, "version"), (12, "header_crc"), (16, "header_crc")]
)
def test_a_damaged_header_is_refused_and_the_field_is_named(table, at, field):
    overwrite(table, at, b"\xa5")
    with pytest.raises(CorruptSegmentError, match=field):
        read_offsets_header(table._fd)


def test_a_file_cut_short_is_refused(table):
    os.ftruncate(table._fd, 100)
    with pytest.raises(CorruptSegmentError, match="100 bytes"):
        read_offsets_header(table._fd)


# --------------------------------------------------------------------------------- commits


def test_what_was_committed_is_read_back_by_every_reader(table, groups_fd):
    commit(table, (1, 0), 42, "metadata ✓")
    for reader in (table, OffsetTable.open(groups_fd, GROUP, writable=False)):
        assert reader.get([(1, 0)])[1, 0] == (42, "metadata ✓", 5, 9)


def test_metadata_of_192_bytes_fits_and_193_do_not(table):
    commit(table, (1, 0), 1, "é" * 96)
    assert table.read()[1, 0].metadata == "é" * 96
    with pytest.raises(OffsetMetadataTooLargeError, match="193 bytes"):
        commit(table, (1, 0), 2, "x" * 193)
    assert table.read()[1, 0].offset == 1


def test_the_file_grows_by_pairs_of_pages_of_real_storage(table):
    everything = {(1, number): (number, b"") for number in range(100)}
    table.put(everything, generation=1, timestamp_ns=1)
    assert {p: one.offset for p, one in table.read().items()} == {p: p[1] for p in everything}
    status = os.fstat(table._fd)
    assert status.st_size == PAGE + 7 * 2 * PAGE
    assert status.st_blocks * 512 >= status.st_size


def test_a_table_sees_what_others_added_and_removed_behind_its_back(table, groups_fd):
    other = OffsetTable.open(groups_fd, GROUP)
    commit(table, (1, 0), 10)
    commit(other, (1, 0), 11)
    for number in range(40):
        commit(other, (2, number), number)
    assert table.get([(1, 0), (2, 39)]) == {
        (1, 0): other.read()[1, 0],
        (2, 39): other.read()[2, 39],
    }
    commit(other, (1, 0), NO_OFFSET)
    commit(other, (3, 0), 77)  # takes the entry over
    assert table.get([(1, 0)]) == {(1, 0): None}
    commit(table, (1, 0), 12)
    assert other.read()[3, 0].offset == 77
    assert other.read()[1, 0].offset == 12


def test_the_room_of_deleted_offsets_is_used_again(table):
    for number in range(200):
        commit(table, (1, number), number)
        commit(table, (1, number), NO_OFFSET)
    assert os.fstat(table._fd).st_size == 3 * PAGE
    assert table.read() == {}


def test_deleting_what_is_not_there_takes_no_room(table):
    for number in range(50):
        commit(table, (1, number), NO_OFFSET)
    assert os.fstat(table._fd).st_size == 3 * PAGE


class OffsetMachine(RuleBasedStateMachine):
    """Two handles of one table and a dict that says what both must see."""

    @initialize()
    def start(self):
        self.groups_fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
        self.model: dict[Partition, tuple[int, str]] = {}

    def teardown(self):
        os.close(self.groups_fd)

    def handle(self) -> OffsetTable:
        if os.fstat(self.groups_fd).st_size == 0:
            from bus.offsets import header_page

            os.pwrite(self.groups_fd, header_page("g", 1, 1) + bytes(2 * PAGE), 0)
        if not hasattr(self, "handles"):
            self.handles = [OffsetTable(self.groups_fd), OffsetTable(self.groups_fd)]
        self.handles.reverse()
        return self.handles[0]

    @rule(offsets=st.dictionaries(PARTITIONS, st.tuples(st.integers(0, 2**62), TEXTS), max_size=6))
    def commit_some(self, offsets):
        encoded = {p: (offset, encode_metadata(text)) for p, (offset, text) in offsets.items()}
        self.handle().put(encoded, generation=1, timestamp_ns=1)
        self.model.update(offsets)

    @rule(partitions=st.sets(PARTITIONS, max_size=6))
    def delete_some(self, partitions):
        deletions = dict.fromkeys(partitions, (NO_OFFSET, b""))
        self.handle().put(deletions, generation=1, timestamp_ns=1)
        self.model = {p: v for p, v in self.model.items() if p not in partitions}

    @rule(partitions=st.sets(PARTITIONS, max_size=6))
    def get_some(self, partitions):
        found = self.handle().get(partitions)
        seen = {p: (one.offset, one.metadata) if one else None for p, one in found.items()}
        assert seen == {p: self.model.get(p) for p in partitions}

    @rule()
    def read_all(self):
        found = self.handle().read()
        assert {p: (one.offset, one.metadata) for p, one in found.items()} == self.model


TestOffsetsAgainstADict = OffsetMachine.TestCase


# ------------------------------------------------------------------------ torn and damaged


@given(
    commits=st.integers(2, 6),
    copy=st.integers(0, 1),
    at=st.integers(0, ENTRY_BYTES - 1),
    bit=st.integers(0, 7),
)
def test_any_one_flipped_bit_leaves_the_other_copy_to_count(commits, copy, at, bit):
    fd = fresh_file()
    table = OffsetTable(fd)
    for offset in range(1, commits + 1):
        commit(table, (1, 0), offset, "m" * 192)
    newest_is_hit = (commits % 2 == 0) == (copy == 1)  # the first commit has both copies
    old = os.pread(fd, 1, position(0, copy) + at)
    overwrite(table, position(0, copy) + at, bytes([old[0] ^ (1 << bit)]))
    assert OffsetTable(fd).read()[1, 0].offset == commits - newest_is_hit
    commit(OffsetTable(fd), (1, 0), 99)
    assert OffsetTable(fd).read()[1, 0].offset == 99
    os.close(fd)


@given(st.integers(0, ENTRY_BYTES))
def test_a_write_torn_at_any_byte_says_what_was_said_before_or_after(torn_at):
    fd = fresh_file()
    table = OffsetTable(fd)
    for offset in (1, 2, 3):
        commit(table, (1, 0), offset, f"{offset}" * 192)
    before = os.pread(fd, 3 * PAGE, 0)
    commit(table, (1, 0), 4, "4" * 192)
    after = os.pread(fd, 3 * PAGE, 0)
    where = next(i for i in (position(0, 0), position(0, 1)) if before[i:][:256] != after[i:][:256])
    torn = after[where : where + torn_at] + before[where + torn_at : where + ENTRY_BYTES]
    overwrite(table, where, torn)
    found = OffsetTable(fd).read()[1, 0]
    assert (found.offset, found.metadata) in [(3, "3" * 192), (4, "4" * 192)]
    os.close(fd)


@pytest.mark.parametrize("writes", [1, 2])
def test_a_deletion_cut_short_is_a_deletion_and_the_entry_is_used_again(table, writes):
    commit(table, (1, 0), 1)
    commit(table, (1, 0), 2)
    done = []
    real = table._write

    def write(number: int, copy: int, data: bytes) -> None:
        if len(done) < writes:
            real(number, copy, data)
        done.append(copy)

    table._write = write
    commit(table, (1, 0), NO_OFFSET)
    del table._write
    assert len(done) == 3
    assert table.read() == {}
    assert table.get([(1, 0)]) == {(1, 0): None}
    commit(table, (1, 0), 3)
    assert table.read()[1, 0].offset == 3
    assert [number for number, entry in table._scan() if not entry.free] == [0]


def test_a_commit_damaged_twice_is_no_missing_one_until_there_is_another(table):
    commit(table, (1, 0), 1)
    commit(table, (1, 0), 2)
    commit(table, (1, 1), 3)
    for copy in (0, 1):
        overwrite(table, position(0, copy) + 32, b"\xff")
    assert table.get([(1, 1)])[1, 1].offset == 3
    for suspect in (0, 7):
        with pytest.raises(CorruptSegmentError, match=r"1 commits are damaged .*reset-offsets"):
            table.get([(1, suspect), (1, 1)])
    commit(table, (1, 0), 9)
    assert table.get([(1, 0), (1, 1), (1, 7)])[1, 0].offset == 9
    assert table.read()[1, 1].offset == 3


def test_a_first_commit_that_a_death_cut_short_is_none(table):
    overwrite(table, position(0, 1), b"half of it")
    assert table.get([(1, 0)]) == {(1, 0): None}


def fresh_file() -> int:
    from bus.offsets import header_page

    fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.pwrite(fd, header_page("g", 1, 1) + bytes(2 * PAGE), 0)
    return fd
