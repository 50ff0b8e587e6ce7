"""Durable files appear whole or not at all, and are found again by their names."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.durable import (
    DATA_START,
    create_temporary,
    identity_of,
    list_segments,
    open_dir,
    publish_temporary,
    remove_leftovers,
    remove_segments,
    segment_name,
    set_aside,
)
from bus.errors import NoSpaceError

HEADER = bytes(DATA_START)


@pytest.fixture
def dir_fd(tmp_path: Path) -> Iterator[int]:
    with open_dir(tmp_path) as fd:
        yield fd


def create_segment(dir_fd: int, base_offset: int) -> None:
    fd = create_temporary(dir_fd, base_offset, HEADER, 1 << 16)
    publish_temporary(dir_fd, base_offset, fd)
    os.close(fd)


def test_a_name_is_the_base_offset_and_sorts_like_it() -> None:
    assert segment_name(0) == "00000000000000000000.log"
    assert segment_name(2**63 - 1) == "09223372036854775807.log"
    assert sorted(map(segment_name, [10, 9, 100])) == list(map(segment_name, [9, 10, 100]))


def test_segments_are_listed_by_offset_and_nothing_else_is(tmp_path: Path, dir_fd: int) -> None:
    for base in (30, 4, 0):
        create_segment(dir_fd, base)
    for name in ("state.json", "replica.lock", "12.log", "x" * 20 + ".log"):
        tmp_path.joinpath(name).touch()
    assert list_segments(dir_fd) == list_segments(tmp_path) == [0, 4, 30]


def test_a_new_segment_has_its_length_and_its_mode(tmp_path: Path, dir_fd: int) -> None:
    create_segment(dir_fd, 7)
    status = tmp_path.joinpath(segment_name(7)).stat()
    assert status.st_size == 1 << 16
    assert status.st_blocks * 512 >= 1 << 16
    assert status.st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, dir_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        os.ftruncate(fd, size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoSpaceError, match="65536 bytes"):
        create_segment(dir_fd, 7)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_dead_replica_are_removed(tmp_path: Path, dir_fd: int) -> None:
    tmp_path.joinpath("00000000000000000009.log.tmp").touch()
    create_segment(dir_fd, 4)
    remove_leftovers(dir_fd)
    assert [path.name for path in tmp_path.iterdir()] == [segment_name(4)]


def test_removed_and_damaged_segments_are_no_longer_listed(tmp_path: Path, dir_fd: int) -> None:
    for base in (0, 10, 20):
        create_segment(dir_fd, base)
    remove_segments(dir_fd, [0])
    name = set_aside(dir_fd, 20)
    assert list_segments(dir_fd) == [10]
    assert tmp_path.joinpath(name).exists()


def test_a_new_header_says_nothing_about_frames_that_are_not_there() -> None:
    header = bytes([1]) * DATA_START
    identity = identity_of(header)
    assert len(identity) == DATA_START
    assert identity[:128] == header[:128]
    assert not any(identity[128:])
