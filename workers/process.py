"""One worker process, from outside: its start, signals to it, what it says, its end.

A pidfd stands for the process: readable at its end within a millisecond or so, and a signal sent
through it cannot reach a later process with the same pid. The pidfd alone proves the end; the exit
code comes a moment later from whoever is the parent, the fork server or this process.

The worker is not daemonic in multiprocessing's sense: it may have children and pools of its own.
That it ends with its supervisor is its own affair: see workers/post.py.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, Final, Self

from workers.exits import Exit, OomCounter, exit_of
from workers.post import live

#: How long the parent of a process that is dead may take to tell its exit code.
EXIT_CODE_WAIT_S: Final = 2.0
#: What multiprocessing says when the fork server is gone, which took the exit code with it.
_FORKSERVER_LOST: Final = 255


class WorkerProcess:
    """A process that was started. Attributes: `pid`, `pidfd`, `reader` (what it says)."""

    def __init__(self, process: Any, reader: Connection) -> None:
        """Private: use `start`."""
        self._process = process
        self.pid: int = process.pid
        self.reader = reader
        self.pidfd = _pidfd_of(self.pid)

    @classmethod
    def start(cls, context: BaseContext, name: str, life: Callable[..., None], seed: Any) -> Self:
        """Starts a process that runs `life(post)`; `seed` is what its post is made of.

        Raises OSError if there can be no process now, and whatever pickling `life` raises.
        """
        reader, writer = context.Pipe(duplex=False)
        try:
            process: Any = context.Process(  # type: ignore[attr-defined]
                target=live, args=(life, seed, writer), name=name, daemon=False
            )
            process.start()
        except EOFError as error:
            reader.close()
            raise OSError("the fork server ended; stderr may say why") from error
        except BaseException:
            reader.close()
            raise
        finally:
            # its only copy is the worker's then, and the reader sees the end
            writer.close()
        return cls(process, reader)

    @property
    def ended(self) -> bool:
        """True if the process is no more."""
        return self.wait(0.0)

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end; False if it did not come in time."""
        if self.pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def send(self, number: int) -> bool:
        """Sends a signal; False if the process is no more."""
        if self.pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def messages(self) -> list[bytes]:
        """What the worker has said since the last time. Never blocks for long."""
        found: list[bytes] = []
        # a worker that is killed amid a message leaves a part of it, and then the end of the pipe
        with suppress(EOFError, OSError):
            while self.reader.poll():
                found.append(self.reader.recv_bytes())
        return found

    def take_exit(self, oom: OomCounter) -> Exit:
        """How a process ended that has ended; its exit code is waited for a moment."""
        deadline = time.monotonic() + EXIT_CODE_WAIT_S
        code = self._process.exitcode
        while code is None and time.monotonic() < deadline:
            time.sleep(0.001)
            code = self._process.exitcode
        if code == _FORKSERVER_LOST and self._process._popen.method == "forkserver":
            code = None
        return exit_of(self.pid, code, out_of_memory=code == -signal.SIGKILL and oom.struck())

    def close(self) -> None:
        """Lets go of the descriptors of a process that has ended. Idempotent."""
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)
        if not self.reader.closed:
            self.reader.close()
        with suppress(ValueError):  # multiprocessing has not seen its end: the fork server is gone
            self._process.close()


def _pidfd_of(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1  # it has ended already, and its parent has reaped it
