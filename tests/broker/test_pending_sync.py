"""A complete segment is synced while the next one is copied; the order of promises stays."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.durable import list_segments
from bus.replica import Follower
from tests.broker.hotlog import HotLog, drain


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotLog]:
    with HotLog(tmp_path) as hot:
        yield hot


@pytest.fixture
def follower(hot: HotLog) -> Iterator[Follower]:
    follower = hot.follower()
    follower.resume()
    yield follower
    follower.close()


class SlowDisk:
    """The first fdatasync waits until it is let go, and then may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: OSError | None = None) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self._real, self._error, self._first = os.fdatasync, error, True
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd: int) -> None:
        if not self._first:
            self._real(fd)
            return
        self._first = False
        self.entered.set()
        assert self.released.wait(20)
        if self._error is not None:
            raise self._error
        self._real(fd)


def copy_two_segments(hot: HotLog, follower: Follower, disk: SlowDisk) -> None:
    """Segment 1 is being synced, the record of segment 2 has been copied."""
    hot.append(b"a", b"b")
    hot.roll()
    hot.append(b"c")
    while not disk.entered.is_set() or follower.next_offset < 3:
        assert follower.step()


def test_nothing_is_named_or_published_before_the_sync_of_what_stands_before_it(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    copy_two_segments(hot, follower, disk)
    assert list_segments(hot.durable) == []
    assert hot.log.high_watermark == 0
    disk.released.set()
    drain(follower)
    assert list_segments(hot.durable) == [0, 2]
    assert hot.log.high_watermark == 3
    assert hot.durable_ends() == {0: (2, True), 2: (3, False)}


def test_a_sync_that_fails_behind_the_copy_takes_the_replica_back_to_its_segment(
    hot: HotLog,
    follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = SlowDisk(monkeypatch, OSError(errno.EIO, os.strerror(errno.EIO)))
    copy_two_segments(hot, follower, disk)
    disk.released.set()
    drain(follower)
    assert [record.message for record in caplog.records if "copied to a new" in record.message] == [
        f"segment 1 is copied to a new durable file: sync: {os.strerror(errno.EIO)}"
    ]
    assert hot.log.high_watermark == 3
    assert hot.durable_ends() == {0: (2, True), 2: (3, False)}


def test_a_replica_that_dies_meanwhile_copies_the_unnamed_segment_again(
    hot: HotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = hot.follower()
    follower.resume()
    disk = SlowDisk(monkeypatch)
    copy_two_segments(hot, follower, disk)
    disk.released.set()
    follower.close()
    heir = hot.follower()
    heir.resume()
    assert hot.log.high_watermark == 2
    drain(heir)
    assert hot.durable_ends() == {0: (2, True), 2: (3, False)}
    assert hot.log.high_watermark == 3
    heir.close()
