"""Functions of stages in tests; each is sent to its workers by name."""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import workers
from tests.workers.handlers import passes, passes_async, say


def double(value: int) -> int:
    """One for one."""
    return 2 * value


def up_to_two(value: int) -> Iterator[int]:
    """Nothing, one or two values."""
    for n in range(value % 3):
        yield 10 * value + n


def outputs_of_up_to_two(value: int) -> list[int]:
    """The same, for the expectation."""
    return [10 * value + n for n in range(value % 3)]


def negate(value: int) -> int:
    """One for one."""
    return -value


async def slowly(value: int) -> int:
    """Waits a little."""
    await passes_async(0.001)
    return value


async def both_signs(value: int) -> AsyncIterator[int]:
    """Two for one."""
    yield value
    yield -value


def first_is_slow(value: int) -> int:
    """The first one takes far longer than all others together."""
    passes(0.8 if value == 0 else 0.0005)
    return value


def fails_on_5(value: int) -> int:
    """Raises for 5, each time."""
    if value == 5:
        raise LookupError(f"{value} is not there")
    return value


def never(value: int) -> int:
    """Works for ever."""
    passes(600.0)
    return value


def with_key(value: int) -> workers.Output:
    """Says more than a value."""
    return workers.Output(value=value, key=b"k%d" % value, headers=(("by", b"with_key"),))


def plus_state(value: int, state: dict[str, int]) -> int:
    """Adds what init gave."""
    return value + state["plus"]


def thousand() -> dict[str, int]:
    """An init."""
    return {"plus": 1000}


def mean_in_place(value: Any) -> Any:
    """Of an array that lies in the log; with it comes a number."""
    array, number = value["array"], value["number"]
    assert not array.flags.writeable
    assert not array.flags.owndata
    return {"mean": float(array.mean()), "number": number, "half": array[::2].copy()}


def kills_itself_once(value: int, place: Path) -> Iterator[int]:
    """Three values for one; the worker dies once, for value n after n of them."""
    for n in range(3):
        if n == value % 4:
            _die_once(place / f"died-{value}")
        yield 3 * value + n
    if value % 4 == 3:
        _die_once(place / f"died-{value}")


def _die_once(marked: Path) -> None:
    if not marked.exists():
        marked.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def three(value: int) -> Iterator[int]:
    """Three values for one, with pauses in which it may be killed."""
    for n in range(3):
        passes(0.0005)
        yield 3 * value + n
    passes(0.0005)


def sum_and_count(values: list[int]) -> list[int]:
    """One for many."""
    return [sum(values), len(values)]


def first_alone(place: Path) -> None:
    """An init: the first worker begins at once, all others when one has died."""
    try:
        (place / "first").touch(exist_ok=False)
    except FileExistsError:
        while not (place / "died").exists():
            passes(0.01)


def ten_times_each(values: list[int], state: None, place: Path) -> Iterator[int]:
    """As many as it gets; slowly, once a worker has died."""
    if (place / "died").exists():
        passes(0.3)
    for value in values:
        yield 10 * value


class DeadlyFormat:
    """A worker that writes its n-th value in it dies once; how often it was used is a line each."""

    def __init__(self, place: Path, after: int) -> None:
        self._place = place
        self._left = after

    def serialize(self, value: Any) -> bytes:
        if self._left == 0:
            _die_once(self._place / "died")
        self._left -= 1
        say(self._place / "written", value)
        return json.dumps(value).encode()

    def deserialize(self, data: bytes) -> Any:
        return json.loads(data)
