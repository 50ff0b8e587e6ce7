"""Starting a broker because a client needs one.

The broker is a daemon of its own: its own session, its output in broker.log. It forks at its
start and its first process ends at once, so that no client ever has it for a child. It reports
through a pipe, in one JSON line, that it is ready or why it is not.

Several clients may do this at the same moment: broker.lock lets one broker win, the others report
BrokerAlreadyRunningError, and their clients connect to the winner.
"""

import json
import os
import select
import site
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from bus import files
from bus.control import ControlClient
from bus.directory import BROKER_LOCK, BROKER_LOG, BusDirectory
from bus.errors import BrokerAlreadyRunningError, BrokerNotRunningError, error_named
from bus.liveness import is_dead

#: pause between two looks at a broker that another client is starting
RETRY_S: Final = 0.01
#: a broker that ends right after its start is not started over and over
STARTS_MAX: Final = 3
_READY_BYTES_MAX: Final = 1 << 16
_LOG_TAIL_BYTES: Final = 2000


class BrokerDiedError(BrokerNotRunningError):
    """Raised when a broker that was started ended before it said whether it is ready."""


def connect(directory: BusDirectory, *, autostart: bool, timeout_s: float) -> ControlClient:
    """A connection to the broker of the directory, which is started if need be and allowed.

    Raises BrokerNotRunningError, or the error that kept the broker from starting.
    """
    deadline = time.monotonic() + timeout_s
    starts = 0
    while True:
        try:
            return ControlClient(directory, timeout_s=timeout_s)
        except BrokerNotRunningError:
            if not autostart or time.monotonic() >= deadline:
                raise
            if _is_locked(directory):
                time.sleep(RETRY_S)  # it is starting, or ending: both are soon over
                continue
            if starts == STARTS_MAX:
                raise
        starts += 1
        try:
            start(directory, deadline=deadline)
        except BrokerDiedError:
            if starts == STARTS_MAX:  # killed once is an accident
                raise


def _is_locked(directory: BusDirectory) -> bool:
    fd = directory.open_lock(BROKER_LOCK)
    try:
        return not is_dead(fd, 0)
    finally:
        os.close(fd)


def start(directory: BusDirectory, *, deadline: float) -> None:
    """Start a broker and wait until it is ready, or until another one turns out to run.

    `deadline` is on the monotonic clock. Raises the error that the broker reported.
    """
    if not sys.executable:
        raise BrokerNotRunningError(
            f"no broker is running in {directory.path}, and this program cannot start one (it has"
            f" no sys.executable); start one with: bus serve {directory.path}"
        )
    reader, writer = os.pipe()
    try:
        try:
            process = _spawn(directory, writer)
        finally:
            os.close(writer)
        line = _read_line(reader, deadline)
    finally:
        os.close(reader)
    _reap(process, deadline)
    _judge(directory, line)


def _spawn(directory: BusDirectory, ready_fd: int) -> "subprocess.Popen[bytes]":
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    log_fd = files.open_file(BROKER_LOG, flags, dir_fd=directory.fd)
    command = [sys.executable, "-P", "-m", "bus.supervisor", str(directory.path)]
    command += ["--autostarted", "--ready-fd", str(ready_fd)]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(ready_fd,),
            start_new_session=True,
            cwd="/",
            env=environment(),
        )
    except OSError as error:
        raise BrokerNotRunningError(f"cannot run {command[0]}: {error.strerror}") from error
    finally:
        os.close(log_fd)


def environment() -> dict[str, str]:
    """Ours, and the place of this package if an interpreter would not find it by itself."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parent.parent)
    if root not in [*site.getsitepackages(), site.getusersitepackages()]:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([root, before] if before else [root])
    return environment


def is_readable(fd: int, timeout_s: float) -> bool:
    """Waits until there is something to read, or the end; unlike select, for any descriptor."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1e3))


def _read_line(reader: int, deadline: float) -> bytes:
    """What the broker reports; empty if it ended without a word, or is too slow."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _READY_BYTES_MAX:
        left = deadline - time.monotonic()
        if left <= 0 or not is_readable(reader, left):
            return b""
        data = os.read(reader, _READY_BYTES_MAX)
        if not data:
            return line
        line += data
    return line


def _reap(process: "subprocess.Popen[bytes]", deadline: float) -> None:
    """Wait for the first process, which ends as soon as the daemon is forked."""
    try:
        process.wait(max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise BrokerNotRunningError(
            f"the broker (pid {process.pid}) did not become a daemon in time"
        ) from error


def _judge(directory: BusDirectory, line: bytes) -> None:
    try:
        report: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise BrokerDiedError(
            f"the broker for {directory.path} did not start; the end of {directory.log_path}:\n"
            + _log_tail(directory)
        ) from error
    if "error" in report:
        failure = error_named(str(report["error"]), str(report.get("message", "")))
        if not isinstance(failure, BrokerAlreadyRunningError):
            raise failure


def _log_tail(directory: BusDirectory) -> str:
    fd = files.open_file(BROKER_LOG, os.O_RDONLY, dir_fd=directory.fd)
    with open(fd, "rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _LOG_TAIL_BYTES))
        return log.read().decode(errors="replace").strip() or "(empty)"
