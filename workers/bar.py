"""A bar on stderr that says how far work is; where that is no terminal, now and then a line."""

import sys
import time
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from workers.errors import PoolOptionError
from workers.progress import Asked

#: Between two lines where there is no terminal.
LINE_PAUSE_S: Final = 5.0


class _Rate(ProgressColumn):
    """Tasks a second, lately."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


class Bar:
    """One bar. Its methods may be called by any thread; `total` None: it is not known."""

    def __init__(
        self, name: str, asked: Asked, total: int | None, console: Console | None = None
    ) -> None:
        """Shows nothing before `open`. Raises PoolOptionError."""
        if asked not in (True, False, "always"):
            raise PoolOptionError(f'progress must be True, False or "always", not {asked!r}')
        self._console = console or Console(file=sys.stderr)
        shown = bool(asked) and self._console.is_terminal
        self._writes_lines = asked == "always" and not shown
        self._rich = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[failed]} failed", style="red"),
            console=self._console,
            disable=not shown,
        )
        self._task = self._rich.add_task(name, total=total, failed=0)
        self._began_s = self._told_s = time.monotonic()

    def open(self) -> None:
        """From now on it is shown."""
        self._began_s = self._told_s = time.monotonic()
        self._rich.start()

    def advance(self, done: int, failed: int) -> None:
        """So many more are done, of which so many failed."""
        self._rich.update(self._task, advance=done, failed=self._failed + failed)
        self._tell()

    def update(self, done: int, total: int | None, failed: int) -> None:
        """So many are done by now, of so many, and so many attempts failed."""
        self._rich.update(self._task, completed=done, total=total, failed=failed)
        self._tell()

    def close(self) -> None:
        """It stays as it is."""
        self._rich.stop()
        if self._writes_lines:
            self._line()

    @property
    def _failed(self) -> int:
        return int(self._rich.tasks[0].fields["failed"])

    def _tell(self) -> None:
        if self._writes_lines and time.monotonic() - self._told_s >= LINE_PAUSE_S:
            self._told_s = time.monotonic()
            self._line()

    def _line(self) -> None:
        [task] = self._rich.tasks
        passed_s = max(1e-3, time.monotonic() - self._began_s)
        rate = task.completed / passed_s
        total = "?" if task.total is None else f"{task.total:.0f}"
        eta = ""
        if task.total is not None and rate and task.completed < task.total:
            eta = f", ETA {(task.total - task.completed) / rate:.0f} s"
        self._console.print(
            f"{task.description}: {task.completed:.0f} of {total}, {rate:.1f}/s{eta},"
            f" {self._failed} failed",
            highlight=False,
            soft_wrap=True,
        )
