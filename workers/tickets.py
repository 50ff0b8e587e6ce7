"""Tickets: the words in shared memory by which a worker and a canceller agree about a task.

    word of a task    id × 256 + how often workers have begun with it; 255: it is done
    flag of a task    0, ASKED (somebody wants to cancel it), WITHDRAWN (nobody begins with it)

Place of a task: id modulo PLACES. The word is written by who submits, then by the worker that has
claimed the record; the flag by who cancels. A word with another id belongs to a later task: the
record was done long ago.

**Begin and cancel.** The worker stores the word, then loads the flag; the canceller stores ASKED,
waits PAUSE_S, then loads the word. A store reaches all CPUs within far less than a microsecond,
and no CPU holds one back across an interruption; so one of the two sees the other. A canceller
that sees a beginning takes the flag back; a worker that sees ASKED waits for what becomes of it.

The memory has no name: it is gone with the last process that has it, however that ends.
"""

import mmap
import os
import threading
import time
from collections.abc import Iterable
from typing import Final, Self

#: Tasks that may wait or run at a time. Pages that were never used take no memory.
PLACES: Final = 1 << 20
#: What the word of a task that is done counts.
DONE: Final = 255
ASKED: Final = 1
WITHDRAWN: Final = 2
#: A thousand times what a store needs to be seen by all.
PAUSE_S: Final = 0.0001
_BYTES: Final = 9 * PLACES


class Tickets:
    """The tickets of one executor. Attribute: `path`, by which another process opens them."""

    def __init__(self, fd: int) -> None:
        """Private: use `create`, `open`."""
        self._fd = fd
        self.path = f"/proc/{os.getpid()}/fd/{fd}"
        memory = memoryview(mmap.mmap(fd, _BYTES))
        self._words = memory[: 8 * PLACES].cast("Q")
        self._flags = memory[8 * PLACES :]
        self._cancelling = threading.Lock()

    @classmethod
    def create(cls) -> Self:
        """For the executor. Raises OSError."""
        fd = os.memfd_create("executor", os.MFD_CLOEXEC)
        os.ftruncate(fd, _BYTES)
        return cls(fd)

    @classmethod
    def open(cls, path: str) -> Self:
        """For a worker. Raises OSError if the executor's process is gone."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return cls(fd)

    def close(self) -> None:
        """Lets go of the descriptor; what is mapped stays. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    # ------------------------------------------------------------------ for the executor

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
                if self._flags[task % PLACES] != WITHDRAWN:
                    self._flags[task % PLACES] = ASKED
            if asked:
                time.sleep(PAUSE_S)
            withdrawn = []
            for task in asked:
                begun = self.has_begun(task)
                self._flags[task % PLACES] = 0 if begun else WITHDRAWN
                if not begun:
                    withdrawn.append(task)
            return withdrawn

    # ------------------------------------------------------------------ for the worker

    def begun(self, task: int) -> int:
        """How often workers have begun with the task; DONE: nothing is to be done any more."""
        word = self._words[task % PLACES]
        return word & 255 if word >> 8 == task else DONE

    def begin(self, task: int, times: int) -> bool:
        """Begins with the task, for the `times`-th time. False if it was cancelled."""
        place = task % PLACES
        before = self._words[place]
        self._words[place] = task << 8 | times
        while self._flags[place]:  # rare
            if self._flags[place] == WITHDRAWN:
                self._words[place] = before
                return False
            time.sleep(PAUSE_S)
        return True

    def done(self, task: int) -> None:
        """The task's result is in the log."""
        self._words[task % PLACES] = task << 8 | DONE
