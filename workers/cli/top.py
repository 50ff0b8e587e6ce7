"""`python -m workers top`: what all workers of this user do, live."""

import sys
import time
from contextlib import ExitStack
from typing import Final

import click
from rich.console import Console, RenderableType
from rich.live import Live

import bus
from bus.errors import BusError
from workers.backlog import Backlog, backlog
from workers.cli.output import PIPE_WIDTH
from workers.cli.screen import Key, Moment, draw, key_of
from workers.figures import Statistics, statistics

#: Lines of a screen that are not workers, for each set of them.
_OTHER_LINES: Final = 12
_ROWS_MIN: Final = 4
#: Rows of a table that goes to a file.
_ROWS_IN_FILE: Final = 1000


@click.command()
@click.option("-i", "--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True)
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after so many looks.")
@click.option("--once", is_flag=True, help="Look once, and print that; for scripts.")
def top(interval: float, count: int | None, once: bool) -> None:
    """Watch all pools and executors of this user: workers, tasks in hand, rates, what is left.

    It reads shared memory, and asks the buses what is left, once each --interval seconds; workers
    are not disturbed. Rates are those since the last look. Ctrl-C ends it.

    \b
    Examples:
        python -m workers top
        python -m workers top --once > workers.txt

    Exit codes: 0 after --once or --count; 130 Ctrl-C.
    """
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else PIPE_WIDTH)
    with ExitStack() as held:
        look = _Look(held)
        if once or not terminal:
            for number in range(1 if once else count or 1):
                if number:
                    time.sleep(interval)
                console.print(look.draw(console))
            return
        with Live(console=console, screen=count is None, auto_refresh=False) as live:
            looks = 0
            while count is None or looks < count:
                if looks:
                    time.sleep(interval)
                live.update(look.draw(console), refresh=True)
                looks += 1


class _Look:
    """One look after the other; keeps what the next one is compared with."""

    def __init__(self, held: ExitStack) -> None:
        self._held = held
        self._before: Moment | None = None
        self._admins: dict[str | None, bus.Admin] = {}

    def draw(self, console: Console) -> RenderableType:
        """The screen as it is now."""
        pools = tuple(sorted(statistics(), key=lambda one: one.started))
        now = Moment(time.monotonic(), pools, dict(map(self._bus, pools)))
        rows = _ROWS_IN_FILE
        if console.is_terminal:
            rows = max(_ROWS_MIN, console.height // max(1, len(pools)) - _OTHER_LINES)
        drawn = draw(now, self._before, rows)
        self._before = now
        return drawn

    def _bus(self, pool: Statistics) -> tuple[Key, tuple[Backlog, ...] | str]:
        """What is left for a set of workers; or what its bus has against telling it."""
        told = pool.description
        try:
            if not told.get("topics") or not told.get("group"):
                return key_of(pool), ()
            admin = self._admin(told.get("bus"))
            return key_of(pool), tuple(backlog(admin, told["group"], told["topics"]))
        except (BusError, OSError) as error:
            self._forget(told.get("bus"))
            return key_of(pool), " ".join(str(error).split())

    def _admin(self, address: str | None) -> bus.Admin:
        if address not in self._admins:
            # a look starts no broker
            self._admins[address] = self._held.enter_context(bus.Admin(address, autostart=False))
        return self._admins[address]

    def _forget(self, address: str | None) -> None:
        """The next look asks anew: a broker that was started again, for one."""
        admin = self._admins.pop(address, None)
        if admin is not None:
            admin.close()
