"""A process that waits for the disk in the broker's place, when committed offsets are synced.

The broker has one thread, and a disk that hangs would take it along: a second later nobody could
attach any more, or ask for its status. So a process that is forked at the first need opens the
files of the groups, calls fdatasync and writes their copies; the broker asks it, goes on, and is
told.

    broker ── {"groups": [...], "acks": {...}} ──► syncer        one question at a time
           ◄── {"g": null, "h": "Input/output error"} ──

`acks` is what share groups have done: see `bus.ack_tables`.

It ends when the broker's end of the socket is closed, by whatever end of the broker. If it dies
over a question, nobody knows what was synced, and an error may have been reported to it alone: the
files count as in doubt, and are written again before the next sync (see `bus.groups`).
"""

import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from bus.ack_tables import keep
from bus.directory import BusDirectory, offsets_name
from bus.errors import BusError
from bus.incidents import Incident, Incidents
from bus.offset_copies import OffsetCopies
from bus.offsets import OffsetTable
from bus.offspring import fork_child

logger = logging.getLogger(__name__)

#: A sync that takes longer is told, once, in seconds.
SLOW_S: Final = 5.0
_READ_BYTES: Final = 1 << 16

#: Asked for as a group of that name, which no group has: does the disk answer?
PROBE: Final = ""

#: What came of a sync: for each group None, or why it failed.
Outcome = dict[str, str | None]


class Syncer:
    """The broker's side. `broken` is called if nothing is known of what was asked for."""

    def __init__(
        self, directory: BusDirectory, selector: selectors.BaseSelector, incidents: Incidents
    ) -> None:
        """Nothing is forked before the first question."""
        self._directory = directory
        self._selector = selector
        self._incidents = incidents
        self._socket: socket.socket | None = None
        self._pid = 0
        self._unread = b""
        self._asked: list[str] = []
        self._asked_s = 0.0
        self._is_told = False
        self._done: Callable[[Outcome], None] = lambda _: None

    @property
    def is_busy(self) -> bool:
        """True if it waits for the disk; it is said once if that takes long."""
        if self._asked and not self._is_told and time.monotonic() - self._asked_s > SLOW_S:
            self._is_told = True
            self._incidents.note(
                Incident.SYNC_SLOW,
                "the disk has not taken the offsets of %d groups for %g s; commits go on, but a"
                " loss of power would take them back",
                len([name for name in self._asked if name != PROBE]),
                SLOW_S,
            )
        return bool(self._asked)

    def ask(
        self,
        groups: Sequence[str],
        done: Callable[[Outcome], None],
        acks: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Has the offsets of these groups synced; `done` is called with the outcome, later.

        `acks`: by share group, what is to be kept of its acknowledgements. Raises OSError if there
        is no process to be had.
        """
        if self._socket is None:
            self._start()
        assert self._socket is not None
        self._asked, self._done = [*groups, *(one for one in acks or () if one not in groups)], done
        question = {"groups": self._asked, "acks": acks or {}}
        self._asked_s, self._is_told = time.monotonic(), False
        try:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
        except OSError as error:
            # It is gone, or nobody knows how much of the question it has. An answer that never
            # comes would be waited for; its end of the socket tells of its death.
            logger.error("the process that syncs offsets cannot be asked: %s", error.strerror)
            os.kill(self._pid, signal.SIGKILL)

    def finish(self) -> None:
        """Waits until it has done what it was asked for, however long the disk takes."""
        while self._asked:
            self._receive(0)

    def close(self) -> None:
        """Ends the process, which is idle or dead."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
            os.waitpid(self._pid, 0)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._pid = fork_child(
                    "bus-syncer",
                    [self._directory.fd, theirs.fileno()],
                    partial(_live, self._directory, theirs, os.getpid()),
                )
            except OSError:
                ours.close()
                raise
        self._socket, self._unread = ours, b""
        self._selector.register(ours, selectors.EVENT_READ, self._on_readable)

    def _on_readable(self) -> None:
        """What was there when the selector looked may have been taken by a `finish` since then."""
        if self._socket is not None:
            self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_READ_BYTES, flags)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self._unread += data
        if not data:
            self._bury()
        elif self._unread.endswith(b"\n"):
            outcome: Outcome = json.loads(self._unread)
            self._unread, self._asked = b"", []
            self._done(outcome)

    def _bury(self) -> None:
        """The process was killed. What it was asked for is in doubt."""
        pid, asked = self._pid, self._asked
        self.close()
        self._asked = []
        self._incidents.note(
            Incident.CALL_RETRIED, "pid %d, which synced the groups' offsets, was killed", pid
        )
        self._done(dict.fromkeys(asked, "the process that called fdatasync was killed"))


def _live(directory: BusDirectory, theirs: socket.socket, broker_pid: int) -> int:
    """The life of the process; returns its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the broker's end of the socket
    _serve(directory, theirs, broker_pid)
    return 0


class Work:
    """The groups' tables, open in the process that waits for the disk."""

    def __init__(self, directory: BusDirectory, broker_pid: int) -> None:
        self._directory = directory
        self._broker_pid = broker_pid
        # A descriptor learns of each error that came after it was opened, so it is kept.
        self._kept: dict[str, tuple[int, OffsetTable, OffsetCopies]] = {}

    def sync(self, name: str, acks: dict[str, Any] | None = None) -> str | None:
        """Brings a group's offsets, their copy if it is due, and its acknowledgements to the disk;
        why it failed."""
        try:
            if name == PROBE:
                os.utime(self._directory.fd)  # or there would be nothing to write
                os.fsync(self._directory.fd)
                return None
            _, table, copies = self._open(name)
            table.sync()
            if os.getppid() == self._broker_pid:  # else another broker may have deleted the group
                copies.keep(table)
                if acks is not None:
                    keep(self._directory, name, acks)
        except (OSError, BusError) as error:
            return str(error)
        return None

    def _open(self, name: str) -> tuple[int, OffsetTable, OffsetCopies]:
        groups_fd = self._directory.open_groups()
        try:
            inode = os.stat(offsets_name(name), dir_fd=groups_fd).st_ino
            if name in self._kept and self._kept[name][0] != inode:
                self._kept.pop(name)[1].close()  # it was deleted, and made again
            if name not in self._kept:
                table = OffsetTable.open(groups_fd, name)
                self._kept[name] = inode, table, OffsetCopies(self._directory)
        finally:
            os.close(groups_fd)
        return self._kept[name]


def _serve(directory: BusDirectory, theirs: socket.socket, broker_pid: int) -> None:
    work = Work(directory, broker_pid)
    for line in theirs.makefile("rb"):
        question = json.loads(line)
        acks = question["acks"]
        outcome = {name: work.sync(name, acks.get(name)) for name in question["groups"]}
        try:
            theirs.sendall(json.dumps(outcome).encode() + b"\n")
        except BrokenPipeError:
            return  # the broker was killed meanwhile
