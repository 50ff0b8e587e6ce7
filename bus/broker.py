"""A broker as a child process of this program: for tests, and for programs that bring their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bus import autostart
from bus.address import Address, resolve_address
from bus.config import BrokerConfig
from bus.errors import BrokerNotRunningError, BusTimeoutError, IllegalStateError, error_named

#: Time that a broker has to say that it is ready, or at work on its partitions, in seconds.
START_TIMEOUT_S: Final = 30.0
#: Time that one that could not start has to end, and then again after a kill, in seconds.
ABORT_TIMEOUT_S: Final = 5.0
#: Brokers that wait for their disk although they were killed: children of this process to the end.
_unended: "list[subprocess.Popen[bytes]]" = []
_READ_BYTES: Final = 1 << 16


class Broker:
    """Runs a broker for a bus directory, as a child process.

    Use it as a context manager, or call `start` and `stop`. If this program dies without
    stopping it, the broker ends by itself once no client has been attached for
    `config.linger_s` seconds.
    """

    def __init__(
        self,
        path: Address,
        *,
        hot_dir: str | os.PathLike[str] | None = None,
        config: BrokerConfig | None = None,
        log_file: bool = False,
    ) -> None:
        """Nothing is started yet. `hot_dir` overrides where the hot log lives.

        `log_file`: the broker logs to broker.log in the directory instead of to stderr.
        """
        self.path = resolve_address(path)
        self._hot_dir = None if hot_dir is None else Path(hot_dir).absolute()
        self._config = config or BrokerConfig()
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_fd = -1
        self._epoch = 0

    def start(self) -> Self:
        """Starts the broker and waits until it serves; a running one is left alone.

        Raises BrokerAlreadyRunningError if another broker has the directory, BusTimeoutError
        if it does not answer, and whatever kept it from starting.
        """
        if self._process is not None and self._process.poll() is None:
            return self
        self._release()
        _unended[:] = [process for process in _unended if process.poll() is None]
        ready, ready_writer = os.pipe()
        owner_reader, self._owner_fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                self._command(ready_writer, owner_reader),
                stdin=subprocess.DEVNULL,
                pass_fds=(ready_writer, owner_reader),
                env=autostart.environment(),
            )
            os.close(ready_writer)
            ready_writer = -1
            self._judge(_read_line(ready, START_TIMEOUT_S))
        except BaseException:
            self._abort()
            raise
        finally:
            for fd in (ready, ready_writer, owner_reader):
                if fd >= 0:
                    os.close(fd)
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Stops the broker cleanly and waits for its end; idempotent.

        Replicas sync what they have first. `timeout` in seconds; by default, longer than the
        broker gives its replicas. Raises BusTimeoutError when the broker is not done by then.
        """
        process = self._process
        if process is None:
            return
        if timeout is None:
            timeout = 2 * self._config.stop_timeout_s + 5.0
        process.send_signal(signal.SIGTERM)
        if process.returncode is None and not _has_ended(process.pid, timeout):
            raise BusTimeoutError(
                f"the broker in {self.path}, pid {process.pid}, did not stop within {timeout:g} s;"
                " its replicas are still writing, call stop() again"
            )
        process.wait()
        self._release()

    @property
    def pid(self) -> int:
        """Process id of the broker. Raises IllegalStateError before `start`."""
        if self._process is None:
            raise IllegalStateError("the broker was not started; call start(), or use `with`")
        return self._process.pid

    @property
    def epoch(self) -> int:
        """Which start of a broker in this directory this one was, from 1."""
        if not self._epoch:
            raise IllegalStateError("the broker was not started; call start(), or use `with`")
        return self._epoch

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -------------------------------------------------------------------------------- details

    def _command(self, ready_fd: int, owner_fd: int) -> list[str]:
        command = [sys.executable, "-P", "-m", "bus.supervisor", str(self.path)]
        command += ["--ready-fd", str(ready_fd), "--owner-fd", str(owner_fd)]
        if self._log_file:
            command.append("--log-file")
        if self._config != BrokerConfig():
            command += ["--config", json.dumps(self._config.to_json())]
        return command + (["--hot-dir", str(self._hot_dir)] if self._hot_dir else [])

    def _judge(self, line: bytes) -> None:
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise BrokerNotRunningError(
                f"the broker for {self.path} ended before it could serve; it says why on stderr"
            ) from error
        if "error" in answer:
            raise error_named(str(answer["error"]), str(answer.get("message", "")))
        self._epoch = int(answer["epoch"])

    def _abort(self) -> None:
        """Ends what could not start. What waits for its disk ends when that answers, not before."""
        process = self._process
        if process is not None:
            process.terminate()
            if process.returncode is None and not _has_ended(process.pid, ABORT_TIMEOUT_S):
                process.kill()
            if process.returncode is None and not _has_ended(process.pid, ABORT_TIMEOUT_S):
                _unended.append(process)
            else:
                process.wait()
        self._release()

    def _release(self) -> None:
        self._process = None
        self._epoch = 0
        if self._owner_fd >= 0:
            os.close(self._owner_fd)
            self._owner_fd = -1


def _has_ended(pid: int, timeout_s: float) -> bool:
    """Waits for the end of a child. Popen.wait would keep Ctrl-C waiting for a quarter second."""
    fd = os.pidfd_open(pid)
    try:
        return autostart.is_readable(fd, timeout_s)
    finally:
        os.close(fd)


def _read_line(fd: int, timeout_s: float) -> bytes:
    """What the broker reports; empty if it ended without a word.

    It gives a sign now and then while it opens many partitions, and then has as long again.
    """
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not autostart.is_readable(fd, left):
            raise BusTimeoutError(
                f"the broker was neither ready nor at work for {timeout_s:g} s; it may wait for"
                " its disk"
            )
        data = os.read(fd, _READ_BYTES)
        if not data:
            break
        line += data
        deadline = time.monotonic() + timeout_s
    return line
