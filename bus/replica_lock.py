"""Who follows a partition: `topics/NAME/P/replica.lock`, locked by the replica for its life.

The lock is the proof; the pid written into the file says whom to watch or to end. There are never
two writers of a partition's durable files: a replica that finds the file locked ends, and a broker
that is about to recover the files from disk ends the replica first that it finds there.
"""

import logging
import os
import signal
from contextlib import suppress
from typing import Final

from bus import files
from bus.autostart import is_readable
from bus.errors import BusTimeoutError
from bus.liveness import is_dead, lock_byte

logger = logging.getLogger(__name__)

LOCK_FILE: Final = "replica.lock"
#: Time that an orphan has to sync what it has, and then to be gone after a kill, in seconds.
ORPHAN_TIMEOUT_S: Final = 10.0
_PID_BYTES: Final = 20


def take(dir_fd: int) -> int | None:
    """A descriptor that holds the lock, for the life of this process; None if another has it."""
    fd = files.open_file(LOCK_FILE, os.O_RDWR | os.O_CREAT, dir_fd=dir_fd)
    if not lock_byte(fd, 0):
        os.close(fd)
        return None
    os.pwrite(fd, str(os.getpid()).ljust(_PID_BYTES).encode(), 0)
    return fd


def holder(dir_fd: int) -> int | None:
    """The pid of the replica that holds the lock; None if nobody does, 0 if it did not say yet."""
    try:
        fd = files.open_own(LOCK_FILE, os.O_RDWR, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    try:
        if is_dead(fd, 0):
            return None
        text = os.pread(fd, _PID_BYTES, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)


def watch(dir_fd: int) -> tuple[int, int] | None:
    """Pid and pidfd of the replica that holds the lock; None if there is none to be watched."""
    pid = holder(dir_fd)
    if not pid:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The pid may have been reused before the pidfd was open; the lock is the proof.
    if holder(dir_fd) == pid:
        return pid, pidfd
    os.close(pidfd)
    return None


def end_orphan(dir_fd: int, name: str) -> None:
    """Ends a replica whose hot log is gone, and returns when it is.

    Raises BusTimeoutError if it does not go: nobody may touch its files then.
    """
    while holder(dir_fd) is not None:
        watched = watch(dir_fd)
        if watched is None:
            continue  # it has taken the lock this instant, or given it back
        pid, pidfd = watched
        logger.warning("the replica of %s, pid %d, follows a hot log that is gone", name, pid)
        try:
            if not any(_signal(pidfd, how) for how in (signal.SIGTERM, signal.SIGKILL)):
                raise BusTimeoutError(
                    f"the replica of {name}, pid {pid}, cannot be ended: it waits for its disk;"
                    " start the broker again when it is gone"
                )
        finally:
            os.close(pidfd)


def _signal(pidfd: int, how: signal.Signals) -> bool:
    """True if the process is gone in time."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, how)
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)  # a stopped one cannot end itself
    return is_readable(pidfd, ORPHAN_TIMEOUT_S)
