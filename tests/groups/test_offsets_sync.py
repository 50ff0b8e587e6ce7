"""Committed offsets on their way to the disk: what a failed sync was for is written again."""

import errno
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.catalog import Catalog
from bus.directory import BusDirectory
from bus.groups import Groups
from bus.hotdir import open_or_create
from bus.incidents import Incident
from bus.native.core import Bells
from bus.syncer import Syncer


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Groups]:
    """The groups of a bus without a process; "g" has a commit."""
    with BusDirectory.create(tmp_path / "bus") as directory:
        hot, _ = open_or_create(directory, tmp_path / "hot")
        found = Groups(directory, hot, Bells(hot.control), Catalog(directory))
        group = found.ensure("g")
        with group.members.locked():
            group.offsets.put({(1, 0): (7, b"")}, generation=1, timestamp_ns=1)
        yield found
        hot.remove()


def test_a_sync_that_failed_is_not_repeated_before_every_page_is_written_again(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    failures = [OSError(errno.EIO, os.strerror(errno.EIO))]
    real_pwrite = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        done.append(f"write {at}")
        return real_pwrite(fd, data, at)

    def fdatasync(_fd: int) -> None:
        done.append("sync")
        if failures:
            raise failures.pop()

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    groups.sync()
    groups.sync()
    assert done == ["sync", "write 0", "write 4096", "write 8192", "sync"]
    assert groups.get("g").offsets.get([(1, 0)])[1, 0] is not None


def test_a_sync_that_failed_is_counted(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    def fdatasync(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    before = groups._hot.incidents.counts()[Incident.CALL_RETRIED.name.lower()]
    groups.sync()
    groups.sync()
    assert groups._hot.incidents.counts()[Incident.CALL_RETRIED.name.lower()] == before + 2


def test_a_new_broker_writes_every_page_again_before_it_believes_its_first_sync(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_pwrite = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        done.append(f"write {at}")
        return real_pwrite(fd, data, at)

    directory, hot = groups._directory, groups._hot
    successor = Groups(directory, hot, Bells(hot.control), Catalog(directory))
    successor.open_all(fence=False)
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: done.append("sync"))
    successor.sync()
    assert done == ["write 0", "write 4096", "write 8192", "sync"]
    assert successor.get("g").offsets.get([(1, 0)])[1, 0] is not None


def test_a_syncer_that_cannot_be_asked_is_not_waited_for_and_replaced(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sendall(_socket: socket.socket, _question: bytes) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with selectors.PollSelector() as selector:
        groups.syncer = syncer = Syncer(groups._directory, selector, groups._hot.incidents)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(socket.socket, "sendall", sendall)
                groups.sync_nowait()
            for in_doubt in (True, False):  # the second one does what it is asked for
                ((key, _),) = selector.select(20)
                key.data()
                assert not syncer.is_busy
                assert groups.get("g").in_doubt is in_doubt
                groups.sync_nowait()
        finally:
            syncer.close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("is_killed", [False, True], ids=["answered", "killed"])
def test_an_answer_that_was_waited_for_is_not_waited_for_again(
    groups: Groups, is_killed: bool
) -> None:
    """A request that finishes the syncer came in the same round as its answer, or its end.

    The broker waited for another one, which never came: a wait of no length would show.
    """
    with selectors.PollSelector() as selector:
        groups.syncer = syncer = Syncer(groups._directory, selector, groups._hot.incidents)
        try:
            groups.sync_nowait()
            if is_killed:
                os.kill(syncer._pid, signal.SIGKILL)
            ((key, _),) = selector.select(20)
            syncer.finish()
            assert not syncer.is_busy
            if is_killed:  # another one has its place by now
                groups.sync_nowait()
                syncer.finish()
            key.data()
        finally:
            syncer.close()
