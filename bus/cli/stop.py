"""`bus stop`: end the broker cleanly and wait until it is gone."""

import os
import select

import click

from bus.cli.options import directory_argument
from bus.cli.output import note
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import BrokerNotRunningError, BusTimeoutError


@click.command()
@directory_argument
@click.option(
    "--timeout", type=float, default=60, show_default=True, help="Seconds to wait for the end."
)
def stop(directory: str | None, timeout: float) -> None:
    """End the broker of the bus in DIR: records are synced, shared memory is given back.

    Exit codes: 0 stopped, or none was running; 1 it did not end in time; 2 no bus in DIR.
    """
    with BusDirectory.open(directory) as opened:
        try:
            control = ControlClient(opened)
        except BrokerNotRunningError:
            note(f"no broker is running in {opened.path}")
            return
        try:
            pid = int(control.call("status")["broker"]["pid"])
            stop_and_wait(control, pid, timeout)
        finally:
            control.close()
    note(f"stopped the broker (pid {pid})")


def stop_and_wait(control: ControlClient, pid: int, timeout_s: float) -> None:
    """Ask the broker with this pid to stop; returns when its process is gone.

    The pid is opened before the question, so that it cannot mean another process by then.
    Raises BusTimeoutError.
    """
    process = os.pidfd_open(pid)
    try:
        control.call("stop")
        ended = select.poll()
        ended.register(process, select.POLLIN)
        if not ended.poll(timeout_s * 1000):
            raise BusTimeoutError(
                f"the broker (pid {pid}) did not end within {timeout_s:g} s; "
                "its replicas may still be writing: see broker.log, or wait longer (--timeout)"
            )
    finally:
        os.close(process)
