"""Tickets: the words in shared memory by which a worker and a canceller agree about a task.

    word of a task    id × 256 + how often workers have begun with it; 255: it is done
    flag of a task    0, ASKED (somebody wants to cancel it), WITHDRAWN (nobody begins with it);
                      plus 4 for each beginning that is forgiven: all was killed, not the worker

Place of a task: id modulo PLACES. The word is written by who submits, then by the worker that has
claimed the record; the flag by who cancels. A word with another id belongs to a later task: the
record was done long ago.

**Begin and cancel.** The worker stores the word, then loads the flag; the canceller stores ASKED,
waits PAUSE_S, then loads the word. A store reaches all CPUs within far less than a microsecond,
and no CPU holds one back across an interruption; so one of the two sees the other. A canceller
that sees a beginning takes the flag back; a worker that sees ASKED waits for what becomes of it.

The memory has no name: it is gone with the last process that has it, however that ends. That of a
durable executor has one, in /dev/shm: who comes after a kill finds what workers have begun with,
and those that still live agree with the new executor as they did with the old one. It is gone with
a reboot, after which no worker lives. Its maker holds a lock on it, which the kernel releases.
"""

import fcntl
import mmap
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from workers.errors import ExecutorInUseError

#: Tasks that may wait or run at a time. Pages that were never used take no memory.
PLACES: Final = 1 << 20
#: What the word of a task that is done counts.
DONE: Final = 255
ASKED: Final = 1
WITHDRAWN: Final = 2
_CANCEL: Final = 3
FORGIVEN: Final = 4
#: How often a task may have been in hand when all was killed, and be begun again all the same.
FORGIVEN_MAX: Final = 63
#: A thousand times what a store needs to be seen by all.
PAUSE_S: Final = 0.0001
#: Behind words and flags, of tickets that have a name: 1 once all that was in the logs is known.
_READY_AT: Final = 9 * PLACES
_BYTES: Final = _READY_AT + 8


#: Names of this process: a lock of fcntl's does not keep a process from itself.
_ours: set[Path] = set()


class Tickets:
    """The tickets of one executor.

    Attribute: `path`, by which another process opens them.
    """

    def __init__(self, fd: int, name: Path | None = None) -> None:
        """Private: use `create`, `named`, `open`."""
        self._fd = fd
        self._name = name
        self.path = f"/proc/{os.getpid()}/fd/{fd}" if name is None else str(name)
        memory = memoryview(mmap.mmap(fd, _BYTES))
        self._words = memory[: 8 * PLACES].cast("Q")
        self._flags = memory[8 * PLACES : _READY_AT]
        self._ready = memory[_READY_AT:].cast("Q")
        self._cancelling = threading.Lock()

    @classmethod
    def create(cls) -> Self:
        """For the executor. Raises OSError."""
        fd = os.memfd_create("executor", os.MFD_CLOEXEC)
        os.ftruncate(fd, _BYTES)
        return cls(fd)

    @classmethod
    def named(cls, name: Path) -> Self:
        """For a durable executor, made or found. Raises ExecutorInUseError, OSError."""
        if name in _ours:
            raise _in_use(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            fd = os.open(name, flags, 0o600)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still(name, fd):
                    os.posix_fallocate(fd, 0, _BYTES)  # no room is an error here, and no SIGBUS
                    break
            except (BlockingIOError, PermissionError) as error:
                os.close(fd)
                raise _in_use(name) from error
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # who had it before has removed it meanwhile
        _ours.add(name)
        return cls(fd, name)

    @classmethod
    def open(cls, path: str) -> Self:
        """For a worker. Raises OSError if the executor's process is gone."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return cls(fd)

    def close(self) -> None:
        """Lets go of the descriptor, and of the lock; what is mapped stays. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            if self._name is not None:
                _ours.discard(self._name)

    def remove(self) -> None:
        """Closes them, and removes the name if they have one."""
        if self._name is not None and self._fd >= 0:
            with suppress(FileNotFoundError):
                self._name.unlink()
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    # ------------------------------------------------------------------ for the executor

    @property
    def is_ready(self) -> bool:
        """True if they tell of all tasks that are in the logs."""
        return bool(self._ready[0])

    def make_ready(self) -> None:
        """From now on they do."""
        self._ready[0] = 1

    def issue(self, task: int) -> None:
        """A new task, whose place is free."""
        place = task % PLACES
        self._flags[place] = 0
        self._words[place] = task << 8

    def has_begun(self, task: int) -> bool:
        """True if a worker has begun with the task."""
        return self._words[task % PLACES] != task << 8

    def withdraw(self, tasks: Iterable[int]) -> list[int]:
        """Those of the tasks with which nobody has begun, and nobody will."""
        with self._cancelling:
            asked = [task for task in tasks if not self.has_begun(task)]
            for task in asked:
                if self._flags[task % PLACES] & _CANCEL != WITHDRAWN:
                    self._flag(task, ASKED)
            if asked:
                time.sleep(PAUSE_S)
            withdrawn = []
            for task in asked:
                begun = self.has_begun(task)
                self._flag(task, 0 if begun else WITHDRAWN)
                if not begun:
                    withdrawn.append(task)
            return withdrawn

    def _flag(self, task: int, cancel: int) -> None:
        place = task % PLACES
        self._flags[place] = self._flags[place] & ~_CANCEL | cancel

    def take_over(self, task: int) -> bool:
        """A task of an executor that was killed. False if that one had withdrawn it.

        If a worker had begun with it, that does not count: the worker may have been killed with
        the rest. Should it live, the record is its own, and nobody else's, until it has ended.
        """
        place = task % PLACES
        word, flag = self._words[place], self._flags[place]
        if word >> 8 != task:
            self.issue(task)
            return True
        if flag & _CANCEL == WITHDRAWN:
            return False
        if 0 < word & 255 < DONE and flag >> 2 < FORGIVEN_MAX:
            flag += FORGIVEN
        self._flags[place] = flag & ~_CANCEL
        return True

    # ------------------------------------------------------------------ for the worker

    def begun(self, task: int) -> int:
        """How often workers have begun with the task; DONE: nothing is to be done any more."""
        word = self._words[task % PLACES]
        return word & 255 if word >> 8 == task else DONE

    def forgiven(self, task: int) -> int:
        """How many of those beginnings ended with all the rest, and not because of the task."""
        return self._flags[task % PLACES] >> 2

    def begin(self, task: int, times: int) -> bool:
        """Begins with the task, for the `times`-th time. False if it was cancelled."""
        place = task % PLACES
        before = self._words[place]
        self._words[place] = task << 8 | times
        while self._flags[place] & _CANCEL:  # rare
            if self._flags[place] & _CANCEL == WITHDRAWN:
                self._words[place] = before
                return False
            time.sleep(PAUSE_S)
        return True

    def done(self, task: int) -> None:
        """The task's result is in the log."""
        self._words[task % PLACES] = task << 8 | DONE


def _is_still(name: Path, fd: int) -> bool:
    """True if the file of that name is the one that is open, and locked."""
    try:
        found = name.stat()
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino)


def _in_use(name: Path) -> ExecutorInUseError:
    return ExecutorInUseError(
        f"another executor of this name runs ({name} is locked); end it, or use another name"
    )
