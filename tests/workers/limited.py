"""Handlers of pools with limits, their keys, and what an oracle says of the lines they leave."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import workers
from tests.workers.handlers import lines, number, passes, passes_async, say


def tens(record: Any) -> int:
    """A key: three of them."""
    return number(record) % 3


def only_even(record: Any) -> str | None:
    """A key of even records; odd ones are under no limit."""
    return None if number(record) % 2 else "even"


def has_no_key(record: Any) -> str:
    """A key that cannot be told for record 7."""
    if number(record) == 7:
        raise LookupError("seven has no host")
    return "key"


def spans(record: Any, file: Path, seconds: float = 0.02) -> None:
    """Says when it began and when it ended."""
    begin_ns = time.monotonic_ns()
    say(file, "begin", number(record), os.getpid(), begin_ns)
    passes(seconds)
    say(file, "end", number(record), os.getpid(), time.monotonic_ns())


def spans_at_its_first_attempt(record: Any, file: Path) -> None:
    """The same; any other attempt than the first one fails."""
    assert workers.current().attempt == 1
    spans(record, file)


async def spans_async(record: Any, file: Path, seconds: float = 0.02) -> None:
    """The same, many at once."""
    say(file, "begin", number(record), os.getpid(), time.monotonic_ns())
    await passes_async(seconds)
    say(file, "end", number(record), os.getpid(), time.monotonic_ns())


def is_killed_now_and_then(record: Any, file: Path) -> None:
    """Every fifth record kills its process the first time."""
    begin_ns = time.monotonic_ns()
    say(file, "begin", number(record), os.getpid(), begin_ns)
    passes(0.01)
    if number(record) % 5 == 0 and workers.current().attempt == 1:
        say(file, "end", number(record), os.getpid(), time.monotonic_ns())
        os.kill(os.getpid(), signal.SIGKILL)
    passes(0.01)
    say(file, "end", number(record), os.getpid(), time.monotonic_ns())


def at_once(file: Path, keys: int = 1) -> int:
    """The most that ran at the same time of any key: the records by their number modulo `keys`."""
    steps: dict[int, list[tuple[int, int]]] = {}
    for word, which, _, at_ns in lines(file):
        steps.setdefault(int(which) % keys, []).append((int(at_ns), 1 if word == "begin" else -1))
    return max(map(_peak, steps.values()), default=0)


def _peak(steps: list[tuple[int, int]]) -> int:
    running = most = 0
    for _, step in sorted(steps):
        running += step
        most = max(most, running)
    return most


def begins(file: Path, key: int | None = None, keys: int = 1) -> list[int]:
    """When tasks began, in order (ns); those of one key alone if it is given."""
    return sorted(
        int(at_ns)
        for word, which, _, at_ns in lines(file)
        if word == "begin" and (key is None or int(which) % keys == key)
    )
