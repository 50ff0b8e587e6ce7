"""A complete segment is synced while the next one is copied; the order of promises stays."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import tasks
from bus.durable import list_segments
from bus.mirror import Mirror
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
    while follower.next_offset < 3:
        assert follower.step()
    assert disk.entered.wait(20)


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


# --------------------------------------------------------------- threads that cannot be had


def dies_at_its_start(*_: object) -> int:
    """What CPython's does when the new thread finds no memory: nobody is told."""
    return 0


def test_a_sync_whose_thread_died_at_its_start_is_made_by_who_waits_for_it(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "START_S", 0.0)
    monkeypatch.setattr("_thread.start_new_thread", dies_at_its_start)
    hot.append(b"a")
    hot.roll()
    hot.append(b"b")
    drain(follower)
    assert hot.log.high_watermark == 2


def test_a_sync_that_runs_out_of_memory_is_not_believed(
    hot: HotLog, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = Mirror.sync, []

    def sync(mirror: Mirror) -> None:
        if not failed:
            failed.append(mirror)
            raise MemoryError
        real(mirror)

    monkeypatch.setattr(Mirror, "sync", sync)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    hot.append(b"a")
    hot.roll()
    hot.append(b"b")
    drain(follower)
    assert failed and hot.log.high_watermark == 2


def test_work_is_done_once_whoever_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    task = tasks.Task(lambda: done.append(1), "a test")
    task.join()
    assert task.is_done and not task.is_late and not task.cancel()
    monkeypatch.setattr("_thread.start_new_thread", dies_at_its_start)
    monkeypatch.setattr(tasks, "START_S", 0.0)
    dead = tasks.Task(lambda: done.append(2), "a test")
    assert dead.is_late and not dead.is_done
    assert dead.cancel() and not dead.is_late
    again = tasks.Task(lambda: done.append(3), "a test")
    again.join()
    assert done == [1, 3]
