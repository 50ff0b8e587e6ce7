"""Handlers that do what their records say: "fail ok" fails at the first attempt, works at the next.

The same scripts are run by a Runner and by a Pool.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import workers
from tests.workers.handlers import passes, passes_async
from workers.testing import crash as crash_in_test

#: Longer than the timeout of the tests, and short enough to end by itself.
LONG_S = 20.0
Crash = Callable[[], object]


def kill_self() -> None:
    """The end of a real process."""
    os.kill(os.getpid(), signal.SIGKILL)


def step_of(record: Any) -> str:
    """What this attempt is to do; the last step is repeated."""
    steps = record.value.decode().split(" ")
    return str(steps[min(workers.current().attempt, len(steps)) - 1])


def does(step: str, crash: Crash) -> None:
    """What takes no time."""
    if step == "fail":
        raise ValueError("as the script says")
    if step == "refuse":
        raise LookupError("never again")
    if step == "memory":
        raise MemoryError
    if step == "exit":
        raise SystemExit(3)
    if step == "crash":
        crash()


def scripted(record: Any, crash: Crash) -> None:
    """A function."""
    step = step_of(record)
    if step == "hang":
        passes(LONG_S)
    while step == "stick":
        try:
            passes(LONG_S)
        except workers.errors.TaskTimeout:
            continue  # it takes no notice
    does(step, crash)


async def scripted_async(record: Any, crash: Crash) -> None:
    """An async def."""
    step = step_of(record)
    if step == "hang":
        await passes_async(LONG_S)
    while step == "stick":
        try:
            await passes_async(LONG_S)
        except asyncio.CancelledError:
            continue
    await passes_async(0.001)
    does(step, crash)


__all__ = ["crash_in_test", "kill_self", "scripted", "scripted_async"]
