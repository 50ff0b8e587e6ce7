"""A process that the broker forks for a task of its own: a replica, the one that syncs offsets.

It is cheap, for what the broker made stays as it is, and so stays shared. It keeps no descriptor
but those it is given: an inherited broker.lock or client socket would keep dead processes looking
alive. Nothing of the broker is cleaned up when it ends: no handlers, no buffers.
"""

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

logger = logging.getLogger(__name__)

#: Python's handlers must not run in the child before it has installed its own.
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: An unexpected error: the broker forks another one.
EXIT_ERROR: Final = 1


def fork_child(name: str, keep: Iterable[int], live: Callable[[], int]) -> int:
    """Forks a process called `name`, whose life is `live`; returns its pid.

    `live` begins with SIGTERM and SIGINT blocked, no descriptor above stderr but those in `keep`,
    and returns the exit code. The caller has one thread only. Raises OSError.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _live(name, keep, live)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return pid


def _live(name: str, keep: Iterable[int], live: Callable[[], int]) -> None:
    """Does not return."""
    code = EXIT_ERROR
    try:
        gc.freeze()
        _close_inherited(keep)
        signal.set_wakeup_fd(-1)
        with suppress(OSError), open("/proc/self/comm", "w") as comm:
            comm.write(name)
        code = live()
    except BaseException:
        logger.exception("%s died; the broker starts another one", name)
    finally:
        os._exit(code)


def _close_inherited(keep: Iterable[int]) -> None:
    low = 3
    for fd in sorted(fd for fd in keep if fd > 2):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
