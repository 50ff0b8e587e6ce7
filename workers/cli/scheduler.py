"""`python -m workers scheduler`: brings scheduled tasks to their topics."""

import logging
import signal

import click

from workers.life import LOG_FORMAT
from workers.scheduler import Scheduler


@click.command()
@click.option("-d", "--dir", "directory", envvar="BUS_DIR", help="The bus directory.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
def scheduler(directory: str | None, quiet: bool) -> None:
    """Bring the tasks of workers.schedule() to their topics when they are due, until SIGTERM.

    Several may run: each takes over what another one leaves.

    Exit codes: 0, also after a signal; 2 wrong usage.
    """
    logging.basicConfig(level=logging.ERROR if quiet else logging.INFO, format=LOG_FORMAT)
    running = Scheduler(directory)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop_soon())
    running.run()
