"""`python -m workers run`: a pool as a program of its own."""

import logging
import os
import sys
from typing import Any

import click

from workers.cli.limits import limits_of
from workers.errors import HandlerError
from workers.handler import find, find_any
from workers.logs import configure
from workers.order import MODES
from workers.pipeline import Pipeline
from workers.pool import Pool
from workers.retry import Retry
from workers.start_methods import FORKSERVER, START_METHODS
from workers.supervisor import DRAIN_TIMEOUT_S

_MIB = 1 << 20


@click.command()
@click.argument("handler", metavar="MODULE:NAME")
@click.option("-t", "--topic", help="What the workers read; not for a pipeline.")
@click.option("-n", "--processes", type=int, help="Workers.  [default: one for each CPU]")
@click.option("-g", "--group", help="The share group.  [default: the handler's name]")
@click.option("--mode", type=click.Choice(MODES), default="queue", help="keyed: in order per key.")
@click.option("-d", "--dir", "directory", envvar="BUS_DIR", help="The bus directory.")
@click.option("--concurrency", type=int, default=1, help="Records at once, if async.")
@click.option("--rate", metavar="N/TIME", help="So many begin in a time: 10/s, 90/m, 5/0.5s.")
@click.option("--burst", type=int, default=1, help="So many of them may begin at once.")
@click.option("--at-once", type=int, help="So many run at once, in all processes together.")
@click.option("--timeout", "timeout_s", type=float, help="Seconds for one record.")
@click.option("--retries", type=int, default=Retry().failure, help="Failures until it is given up.")
@click.option("--dead-letter/--no-dead-letter", default=True, help="Keep what is given up.")
@click.option("--max-tasks", type=int, help="Replace a worker after so many records.")
@click.option("--max-rss-mib", type=int, help="Replace a worker above so much memory.")
@click.option("--max-age", "max_age_s", type=float, help="Replace a worker after so many seconds.")
@click.option("--init", metavar="MODULE:NAME", help="Called once in each worker.")
@click.option("--exit", "leave", metavar="MODULE:NAME", help="Called at the end of each worker.")
@click.option("--start-method", type=click.Choice(START_METHODS), default=FORKSERVER)
@click.option("--drain-timeout", "drain_timeout_s", type=float, default=DRAIN_TIMEOUT_S)
@click.option("--until-idle", is_flag=True, help="End when there is nothing left to do.")
@click.option("--progress/--no-progress", help="A bar, or lines where stderr is no terminal.")
@click.option("--flight-record", is_flag=True, help="Note each attempt, for `why`.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    handler: str,
    quiet: bool,
    until_idle: bool,
    progress: bool,
    **options: Any,
) -> None:
    """Call MODULE:HANDLER for each record of a topic, in worker processes, until SIGTERM or Ctrl-C.

    If it names a workers.Pipeline, that one is run instead, with its own options.

    The first signal drains: no new records, those in hand are finished. The second one interrupts.

    \b
    Examples:
        python -m workers run shop:handle -t orders -n 4 --timeout 60
        python -m workers run shop:handle -t orders --until-idle --progress
        python -m workers run shop:handle -t orders --flight-record --log-format json

    Exit codes: 0 all that was begun was finished; 1 work was cut short, or no worker gets anything
    done; 2 wrong usage.
    """
    level = logging.ERROR if quiet else logging.INFO
    configure(level, options["log_format"])
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does, also if it was started otherwise
    found = find_any(handler)
    if isinstance(found, Pipeline):
        ctx.exit(found.run())
    pool = _pool(handler, log_level=level, **options)
    ctx.exit(pool.run(until_idle=until_idle, progress="always" if progress else False))


def _pool(
    handler: str,
    *,
    topic: str | None,
    group: str | None,
    directory: str | None,
    retries: int,
    max_rss_mib: int | None,
    init: str | None,
    leave: str | None,
    rate: str | None,
    burst: int,
    at_once: int | None,
    **options: Any,
) -> Pool:
    if topic is None:
        raise click.UsageError("Missing option '-t' / '--topic'.")
    if max_rss_mib is not None and max_rss_mib <= 0:
        raise HandlerError("--max-rss-mib must be above 0")
    return Pool(
        topic,
        find(handler),
        group_id=group,
        bootstrap_servers=directory,
        retry=Retry(failure=retries),
        max_rss_bytes=max_rss_mib * _MIB if max_rss_mib else None,
        init=find(init) if init else None,
        exit=find(leave) if leave else None,
        limits=limits_of(rate, burst, at_once),
        **options,
    )
