"""Crew: the worker processes of the demo."""

import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

from bus.autostart import environment

#: Seconds that a worker gets to end by itself before it is killed.
_END_S = 10.0


class Crew:
    """Some worker processes with the same arguments. A context manager that ends them all."""

    def __init__(self, arguments: list[str], size: int) -> None:
        self._command = [sys.executable, "-P", "-m", "bus.demo.worker", *arguments]
        self._command.append(str(os.getpid()))
        self._workers: list[subprocess.Popen[bytes]] = []
        #: pids of the workers that were killed, by the demo or by somebody else
        self.killed: list[int] = []
        for _ in range(size):
            self._start()

    def _start(self) -> None:
        worker = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, cwd="/", env=environment()
        )
        self._workers.append(worker)

    def alive(self) -> list[int]:
        """Pids of the workers that run now. If all have died, a new one is started first."""
        for worker in list(self._workers):
            if worker.poll() is not None:
                self._workers.remove(worker)
                self.killed.append(worker.pid)
        if not self._workers:
            self._start()
        return [worker.pid for worker in self._workers]

    def kill(self, pid: int) -> None:
        """SIGKILL one worker; returns when it is gone."""
        for worker in self._workers:
            if worker.pid == pid:
                worker.send_signal(signal.SIGKILL)
                worker.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(_END_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
