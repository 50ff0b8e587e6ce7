"""`bus stop`: end the broker cleanly and wait until it is gone."""

import click

from bus.cli.options import directory_argument
from bus.cli.output import note
from bus.directory import BusDirectory
from bus.errors import BrokerNotRunningError
from bus.shutdown import shut_down


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
            pid = shut_down(opened, timeout)
        except BrokerNotRunningError:
            note(f"no broker is running in {opened.path}")
            return
    note(f"stopped the broker (pid {pid})")
