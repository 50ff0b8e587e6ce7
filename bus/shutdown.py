"""Shutdown: ask the broker of a directory to end, and wait until its process is gone."""

import os
import select
from contextlib import closing

from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import BusTimeoutError


def shut_down(directory: BusDirectory, timeout_s: float = 60.0) -> int:
    """End the broker cleanly, all records synced; its pid, once its process is gone.

    Raises BrokerNotRunningError if none answers and BusTimeoutError if it takes longer.
    """
    with closing(ControlClient(directory)) as control:
        pid = int(control.call("status")["broker"]["pid"])
        # Opened before the question is asked: afterwards the pid could mean another process.
        process = os.pidfd_open(pid)
        try:
            control.call("stop")
            _wait(process, pid, timeout_s)
        finally:
            os.close(process)
    return pid


def _wait(process: int, pid: int, timeout_s: float) -> None:
    ended = select.poll()
    ended.register(process, select.POLLIN)
    if not ended.poll(timeout_s * 1000):
        raise BusTimeoutError(
            f"the broker (pid {pid}) did not end within {timeout_s:g} s; its replicas may still"
            " be writing: see broker.log, or wait longer"
        )
