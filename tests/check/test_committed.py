"""`bus check` reads both copies of every committed offset."""

from pathlib import Path

import pytest

from bus.check import Damage, check_directory
from tests.segments import (
    filled,
    offset_entry,
    write_bus,
    write_offsets,
    write_segments,
    write_state,
)

FREE = (b"", b"")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bus that was stopped cleanly with three records."""
    partition = write_bus(tmp_path)
    write_segments(partition, filled(3))
    write_state(tmp_path, (3, 1))
    return tmp_path


def found(root: Path) -> list[Damage]:
    return check_directory(root)


def test_whole_copies_are_no_damage(root: Path) -> None:
    pair = offset_entry(offset=2, sequence=1), offset_entry(offset=3, sequence=2)
    other = offset_entry(offset=1, sequence=1, partition=1), b""
    write_offsets(root, "g", pair, FREE, other)
    assert found(root) == []


def test_one_torn_copy_is_no_damage(root: Path) -> None:
    torn = offset_entry(offset=3, sequence=2)[:100] + bytes(156)
    write_offsets(root, "g", (offset_entry(offset=2, sequence=1), torn))
    assert found(root) == []


def test_an_entry_without_a_valid_copy_is_found(root: Path) -> None:
    path = write_offsets(
        root, "g", (offset_entry(offset=2, sequence=1), offset_entry(offset=3, sequence=2))
    )
    data = bytearray(path.read_bytes())
    data[4096 + 30] ^= 1
    data[8192 + 30] ^= 1
    path.write_bytes(data)
    assert [(one.file, one.position) for one in found(root)] == [("groups/g.offsets", 4096)]


def test_copies_that_do_not_belong_together_are_found(root: Path) -> None:
    pair = offset_entry(offset=2, sequence=1), offset_entry(offset=2, sequence=2, partition=1)
    write_offsets(root, "g", pair)
    assert ["different partitions" in one.what for one in found(root)] == [True]


def test_copies_of_the_same_age_are_found(root: Path) -> None:
    pair = offset_entry(offset=2, sequence=2), offset_entry(offset=3, sequence=2)
    write_offsets(root, "g", pair)
    assert ["sequence 2" in one.what for one in found(root)] == [True]


def test_a_partition_with_two_entries_is_found(root: Path) -> None:
    pair = offset_entry(offset=2, sequence=1), b""
    write_offsets(root, "g", pair, pair)
    assert [one.position for one in found(root)] == [4096 + 256]


def test_an_offset_that_was_never_given_out_is_found(root: Path) -> None:
    write_offsets(root, "g", (offset_entry(offset=4, sequence=1), b""))
    assert [(one.file, one.position) for one in found(root)] == [("groups/g.offsets", 4096)]


def test_an_offset_of_a_deleted_topic_is_no_damage(root: Path) -> None:
    write_offsets(root, "g", (offset_entry(offset=400, sequence=1, topic=9), b""))
    assert found(root) == []


@pytest.mark.parametrize("at", [0, 8, 12, 16, 32, 40])
def test_a_changed_header_is_found(root: Path, at: int) -> None:
    path = write_offsets(root, "g", (offset_entry(offset=2, sequence=1), b""))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert {one.file for one in found(root)} == {"groups/g.offsets"}


def test_a_table_under_another_name_is_found(root: Path) -> None:
    path = write_offsets(root, "g")
    path.rename(path.with_name("h.offsets"))
    assert ["group name is g, expected h" in one.what for one in found(root)] == [True]


def test_a_cut_off_table_is_found(root: Path) -> None:
    path = write_offsets(root, "g", (offset_entry(offset=2, sequence=1), b""))
    whole = path.read_bytes()
    path.write_bytes(whole[:8192])
    assert ["whole pairs of pages" in one.what for one in found(root)] == [True]
    path.write_bytes(whole[:100])
    assert [one.position for one in found(root)] == [100]
