"""What a broker does as a process among others: one per directory, detached, reporting."""

import argparse
import json
import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bus import files
from bus.directory import BROKER_LOCK, BROKER_LOG, BusDirectory
from bus.errors import BrokerAlreadyRunningError
from bus.holder import if_stopped
from bus.liveness import lock_byte

#: Between two signs of life of a broker that takes long to start, in seconds.
SIGN_PAUSE_S: Final = 1.0


def take_broker_lock(directory: BusDirectory) -> int:
    """The descriptor that holds broker.lock, for the broker's life.

    Raises BrokerAlreadyRunningError naming the pid of the broker that holds it.
    """
    fd = directory.open_lock(BROKER_LOCK)
    if lock_byte(fd, 0):
        try:
            with files.explained(str(directory.path / BROKER_LOCK)):
                # Never cut to nothing: ext4 would write the file out when it is closed, and a
                # disk that hangs would keep a killed broker from ending.
                os.ftruncate(fd, os.pwrite(fd, f"{os.getpid()}\n".encode(), 0))
        except BaseException:
            os.close(fd)
            raise
        return fd
    holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
    os.close(fd)
    stopped = if_stopped(int(holder)) if holder.isdigit() else ""
    raise BrokerAlreadyRunningError(
        f"a broker runs in {directory.path} already, pid {holder}{stopped}; use it, or end it with:"
        f" bus stop {directory.path}"
    )


def log_to_file(directory: BusDirectory) -> None:
    """Sends stdout and stderr to broker.log, as a daemon does."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    fd = files.open_file(BROKER_LOG, flags, dir_fd=directory.fd)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


class Starter:
    """Whoever started this process: it is told, once, that this is ready or why it is not."""

    def __init__(self, ready_fd: int | None) -> None:
        """`ready_fd` is a pipe to it; None: nobody wants to know."""
        self._ready_fd = ready_fd
        self._next_sign_s = time.monotonic() + SIGN_PAUSE_S

    def progress(self) -> None:
        """This is not ready yet, but at work: a space, now and then, which JSON does not mind."""
        now = time.monotonic()
        if self._ready_fd is None or now < self._next_sign_s:
            return
        self._next_sign_s = now + SIGN_PAUSE_S
        with suppress(BrokenPipeError):
            os.write(self._ready_fd, b" ")

    def tell(self, message: dict[str, Any]) -> None:
        """One JSON line. Does nothing the second time: another file has that descriptor then."""
        ready_fd, self._ready_fd = self._ready_fd, None
        if ready_fd is None:
            return
        with suppress(BrokenPipeError), open(ready_fd, "wb", buffering=0) as pipe:
            pipe.write(json.dumps(message).encode() + b"\n")


def become_daemon() -> None:
    """Lets the first process end at once, so that the client that started it has no child."""
    if os.fork():
        os._exit(0)


def raise_file_limit() -> None:
    """Lets this process open as many files as it may: a descriptor per client is needed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def parse_arguments(arguments: Sequence[str], description: str | None) -> argparse.Namespace:
    """The command line of a broker process."""
    parser = argparse.ArgumentParser(prog="python -m bus.supervisor", description=description)
    parser.add_argument("directory")
    parser.add_argument("--autostarted", action="store_true")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--owner-fd", type=int)
    parser.add_argument("--hot-dir", type=Path)
    parser.add_argument("--config", type=json.loads, default={})
    parser.add_argument("--log-file", action="store_true")
    return parser.parse_args(arguments)
