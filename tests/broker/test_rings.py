"""Spares are made ahead of need, hot files that no ring names are removed."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.crew import LONGEST_PAUSE_S, pause_s
from bus.rings import control_file_name, is_filling, segment_file_name
from tests.broker.hotlog import MIB, TOPIC_ID, HotLog


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotLog]:
    with HotLog(tmp_path) as hot:
        yield hot


def segment_files(hot: HotLog) -> list[str]:
    return sorted(name for name in os.listdir(hot.hot.fd) if name.endswith(".seg"))


def test_a_spare_is_made_once(hot: HotLog) -> None:
    assert hot.rings.feed(hot.log) == 1
    assert hot.rings.feed(hot.log) == 0
    assert [slot.number for slot in hot.log.ring()] == [1, 0]
    assert len(segment_files(hot)) == 2


def test_a_spare_is_as_large_as_the_producer_needs(hot: HotLog) -> None:
    hot.rings.feed(hot.log, need=3 * MIB)
    assert max(slot.bytes for slot in hot.log.ring()) >= 3 * MIB


def test_serials_of_two_brokers_never_meet(hot: HotLog) -> None:
    hot.rings.feed(hot.log)
    assert [slot.serial for slot in hot.log.ring()] == [1, 1 << 32]


def test_half_a_segment_full_is_time_for_a_spare(hot: HotLog) -> None:
    assert not is_filling(hot.log)
    hot.append(b"x" * (MIB // 2))
    assert is_filling(hot.log)


def test_a_full_filesystem_is_reported_once_and_leaves_no_file(
    hot: HotLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = segment_files(hot)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert [hot.rings.feed(hot.log) for _ in range(3)] == [0, 0, 0]
    assert segment_files(hot) == before
    assert hot.rings.spares_failed == 3
    assert len(caplog.records) == 1
    assert hot.rings.feed(hot.log) == 1


def test_files_that_no_ring_names_are_swept(hot: HotLog) -> None:
    keep = segment_file_name(TOPIC_ID, 0, 1), control_file_name(TOPIC_ID, 0)
    for name in (segment_file_name(TOPIC_ID, 0, 7), segment_file_name(9, 0, 1)):
        hot.hot.path.joinpath(name).touch()
    hot.hot.path.joinpath(control_file_name(9, 0)).touch()
    hot.hot.path.joinpath("group-1.ctl").touch()
    hot.hot.path.joinpath(control_file_name(TOPIC_ID, 0) + ".new").touch()
    assert hot.rings.sweep({(TOPIC_ID, 0): {1}}) == 4
    left = set(os.listdir(hot.hot.fd))
    assert left >= {*keep, "group-1.ctl"}


def test_a_removal_that_was_cut_short_leaves_no_control_page(
    hot: HotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot.rings.feed(hot.log)
    real, left = os.unlink, [1]

    def dying(path: str, *, dir_fd: int | None = None) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "unlink", dying)
        hot.rings.remove(TOPIC_ID, 0)
    assert control_file_name(TOPIC_ID, 0) not in os.listdir(hot.hot.fd)
    assert len(segment_files(hot)) == 2


def test_the_first_death_of_a_replica_costs_no_pause_and_later_ones_more() -> None:
    pauses = [pause_s(deaths) for deaths in range(12)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
