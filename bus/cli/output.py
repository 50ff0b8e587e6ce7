"""What commands print: tables and JSON to stdout, notes and progress to stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

#: Columns of a table that does not go to a terminal: wide enough that no cell is folded.
_PIPE_WIDTH = 240


def print_json(value: Any) -> None:
    """One JSON document, with two spaces of indentation."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_json_line(value: Any) -> None:
    """One JSON document on one line, for streams of them."""
    click.echo(json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """A table; a column whose name starts with ">" is aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.removeprefix(">"), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table on stdout."""
    stdout_console().print(make_table(columns, rows, title))


def stdout_console() -> Console:
    """A console for stdout as it is now; without a terminal wide and without colours."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def print_lag(rows: list[dict[str, Any]]) -> None:
    """How far the groups are that producers wait for; nothing if there is none."""
    if rows:
        print_table(
            ("producers of", ">partition", "wait for", ">lag", ">bytes", "now", "reader"),
            [
                (
                    row["topic"],
                    row["partition"],
                    row["group"],
                    row["records"],
                    row["bytes"],
                    "held up" if row["holds_up"] else "not",
                    row["reader"],
                )
                for row in rows
            ],
        )


def note(text: str) -> None:
    """One line for the person at the terminal, on stderr."""
    click.echo(text, err=True)


@contextmanager
def byte_progress(what: str, total: int) -> Iterator[Progress]:
    """A progress bar of bytes on stderr, shown only on a terminal; task 0 is the one bar."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        progress.add_task(what, total=total)
        yield progress


def human_bytes(count: float) -> str:
    """1536 as "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_rate(per_second: float) -> str:
    """1234567 as "1.23 M/s"."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if per_second >= limit:
            return f"{per_second / limit:.2f} {unit}/s"
    return f"{per_second:.0f} /s"
