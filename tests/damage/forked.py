"""Brokers and repairs that are forked from the sweep: starting an interpreter costs more than them.

From the `main` of their module on they are the real ones. Each has a session of its own, by which
all that it has forked is found at the end, whatever became of it.
"""

import gc
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Final
from unittest.mock import patch

import psutil

from bus import supervisor
from bus.cli import check  # noqa: F401 - imported once, not by each child
from bus.cli import main as cli
from tests.waiting import eventually

_FDS_MAX: Final = 4096
#: Forked by this process, and not known to be over with all their children.
_sessions: set[int] = set()


class Forked:
    """Stands in for a `Popen` of `python -m MODULE ARGUMENTS`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
        stdout: int = 1,
        stderr: int = 2,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`stdin` and `env` are this process's own, which is as good."""
        at = command.index("-m")
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(command[at + 1], command[at + 2 :], pass_fds, (stdout, stderr))
        _sessions.add(self.pid)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout_s: float = 60.0) -> int:
        """The exit code."""
        eventually(lambda: self.poll() is not None, timeout_s, f"the end of {self.pid}")
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(
    module: str, arguments: Sequence[str], keep: Sequence[int], outputs: tuple[int, int]
) -> None:
    """Does not return."""
    code = 1
    try:
        os.setsid()
        gc.freeze()
        for target, source in enumerate(outputs, start=1):
            os.dup2(source, target)
        low = 3
        for fd in sorted(keep):
            os.closerange(low, fd)
            low = fd + 1
        os.closerange(low, _FDS_MAX)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        logging.root.handlers.clear()
        code = _run(module, arguments)
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - as an interpreter ends: it must not run on into ours
        traceback.print_exc()
    finally:
        os._exit(code)


def _run(module: str, arguments: Sequence[str]) -> int:
    if module == "bus.supervisor":
        return supervisor.main(list(arguments))
    sys.argv = [module, *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def forking_brokers() -> Iterator[None]:
    """In this block a `Broker` forks its process."""
    with patch("bus.broker.subprocess", SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL)):
        yield


def run_bus(place: Path, *arguments: str, timeout_s: float) -> tuple[int, str, str]:
    """`python -m bus ARGUMENTS`: exit code, stdout and stderr, kept in `place` meanwhile."""
    paths = [place / "stdout", place / "stderr"]
    fds = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for path in paths]
    try:
        process = Forked(["-m", "bus", *arguments], stdout=fds[0], stderr=fds[1])
        code = process.wait(timeout_s)
        return code, *(path.read_text() for path in paths)
    finally:
        for fd, path in zip(fds, paths, strict=True):
            os.close(fd)
            path.unlink()


def end_sessions() -> None:
    """Ends all that is left of what was forked here."""
    for process in [one for one in psutil.process_iter() if _session(one.pid) in _sessions]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for pid in _sessions:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    deadline = time.monotonic() + 10
    while any(_session(pid) in _sessions for pid in psutil.pids()):
        assert time.monotonic() < deadline, "a killed process does not end"
        time.sleep(0.002)
    _sessions.clear()


def _session(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return -1
