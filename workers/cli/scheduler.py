"""`python -m workers scheduler`: brings scheduled tasks to their topics."""

import logging
import signal

import click

from workers.logs import configure
from workers.scheduler import Scheduler


@click.command()
@click.option("-d", "--dir", "directory", envvar="BUS_DIR", help="The bus directory.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
def scheduler(directory: str | None, quiet: bool) -> None:
    """Bring the tasks of workers.schedule() to their topics when they are due, until SIGTERM.

    Several may run: each takes over what another one leaves.

    Exit codes: 0, also after a signal; 2 wrong usage.
    """
    configure(logging.ERROR if quiet else logging.INFO, "text")
    running = Scheduler(directory)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop_soon())
    running.run()
