"""Handlers of pools in tests; each leaves a line for what it did in a file."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import workers


def say(file: Path, *words: object) -> None:
    """One line, whole even if several processes write at once."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, " ".join(map(str, words)).encode() + b"\n")
    finally:
        os.close(fd)


def lines(file: Path) -> list[list[str]]:
    """The words of each whole line so far."""
    if not file.exists():
        return []
    text = file.read_text()
    return [line.split(" ") for line in text[: text.rfind("\n") + 1].splitlines()]


def passes(seconds: float) -> None:
    """A handler's work takes its time."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(left_s)


async def passes_async(seconds: float) -> None:
    """An async handler waits."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(left_s)


def number(record: Any) -> int:
    """Which one of the test's records it is."""
    return int(record.value)


def notes(record: Any, file: Path) -> None:
    """Works."""
    say(file, "done", number(record), os.getpid())


def notes_topic_and_fails_on_7(record: Any, file: Path) -> None:
    """Tells of which topic the record is."""
    say(file, record.topic, number(record))
    if number(record) == 7:
        raise ValueError("no sevens")


def batch_that_fails_on_5(records: list[Any], file: Path) -> None:
    """Raises if 5 is among them."""
    say(file, "batch", len(records))
    numbers = [number(record) for record in records]
    if 5 in numbers:
        if len(numbers) == 1:
            say(file, "failed", 5)
        raise LookupError("no fives")
    for n in numbers:
        say(file, "done", n)


def batch_that_dies_on_5(records: list[Any], file: Path) -> None:
    """Kills its process if 5 is among them."""
    if 5 in map(number, records):
        os.kill(os.getpid(), signal.SIGKILL)
    for record in records:
        say(file, "done", number(record))


async def works_async(record: Any) -> None:
    """An async handler."""


def works_a_while(record: Any, file: Path, seconds: float = 0.002) -> None:
    """Works, and says so at both ends."""
    say(file, "begin", number(record), os.getpid())
    passes(seconds)
    say(file, "end", number(record), os.getpid())


class Unpicklable(Exception):
    """Holds what cannot travel, and cannot be made from its message."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.held = lambda: code


def fails_on_sevens(record: Any, file: Path) -> None:
    """Raises for 7, 17, 27, …, each time."""
    say(file, "try", number(record))
    if number(record) % 10 == 7:
        raise Unpicklable(number(record), "is a seven")


def fails_twice(record: Any, file: Path) -> None:
    """Works at the third attempt."""
    attempt = workers.current().attempt
    say(file, attempt, time.monotonic(), workers.current().counts.failure)
    if attempt < 3:
        raise ConnectionError("not yet")


def exits(record: Any, file: Path) -> None:
    """Calls sys.exit, which must not end the worker."""
    say(file, "try", os.getpid())
    raise SystemExit(3)


def kills_on_5(record: Any, file: Path) -> None:
    """Record 5 kills its process; the others work."""
    say(file, "try", number(record))
    if number(record) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    say(file, "done", number(record))


def hangs_on_5(record: Any, file: Path) -> None:
    """Record 5 sleeps, and can be interrupted."""
    say(file, "try", number(record))
    if number(record) == 5:
        passes(60.0)
    say(file, "done", number(record))


def is_stuck_on_5(record: Any, file: Path) -> None:
    """Record 5 takes no notice of anything."""
    say(file, "try", number(record))
    while number(record) == 5:
        try:
            passes(60.0)
        except workers.errors.TaskTimeout:
            say(file, "ignored", number(record))
    say(file, "done", number(record))


def takes_its_time(record: Any, file: Path) -> None:
    """Longer than its timeout, which it extends."""
    workers.current().extend(30.0)
    passes(0.6)
    say(file, "done", number(record))


async def takes_its_time_async(record: Any, file: Path) -> None:
    """The same."""
    workers.current().extend(30.0)
    await passes_async(0.6)
    say(file, "done", number(record))


def waits_for_a_drain(record: Any, file: Path) -> None:
    """Ends half a second after a drain has begun."""
    say(file, "begin", number(record))
    while not workers.current().draining:
        passes(0.005)
    say(file, "end", number(record))


def never_ends(record: Any, file: Path) -> None:
    """Until it is interrupted."""
    say(file, "begin", number(record))
    passes(60.0)


def runs_out_of_memory(record: Any, file: Path) -> None:
    """As Python sees it."""
    say(file, "try", number(record))
    raise MemoryError


def adds_to(record: Any, state: dict[str, Any]) -> None:
    """Uses what `opens` has made."""
    state["count"] += 1
    say(state["file"], "count", state["count"], os.getpid())


def opens(file: Path) -> dict[str, Any]:
    """The state of a worker."""
    say(file, "init", os.getpid())
    return {"file": file, "count": 0}


def shuts(state: dict[str, Any]) -> None:
    """The end of a worker."""
    say(state["file"], "exit", os.getpid(), state["count"])


def cannot_init() -> None:
    """An init that fails."""
    raise LookupError("the model is not there")


async def sleeps(record: Any, file: Path) -> None:
    """Many at once in one process."""
    say(file, "begin", number(record), os.getpid())
    await passes_async(0.1)
    say(file, "end", number(record), os.getpid())


async def hangs_on_5_async(record: Any, file: Path) -> None:
    """Record 5 waits for ever."""
    say(file, "try", number(record), workers.current().attempt)
    if number(record) == 5:
        await passes_async(60.0)
    await passes_async(0.01)
    say(file, "done", number(record))


async def kills_on_5_async(record: Any, file: Path) -> None:
    """Record 5 kills its process, with others in hand."""
    say(file, "try", number(record))
    await passes_async(0.05)
    if number(record) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    await passes_async(0.05)
    say(file, "done", number(record))


async def never_ends_async(record: Any, file: Path) -> None:
    """Until it is cancelled."""
    say(file, "begin", number(record))
    await passes_async(60.0)


async def opens_async(file: Path) -> dict[str, Any]:
    """An init that waits."""
    await passes_async(0.0)
    return opens(file)


async def adds_to_async(record: Any, state: dict[str, Any]) -> None:
    """Uses it."""
    adds_to(record, state)


async def shuts_async(state: dict[str, Any]) -> None:
    """An exit that waits."""
    await passes_async(0.0)
    shuts(state)


def fails_on_sevens_deeply(record: Any, file: Path) -> None:
    """With a traceback of many lines that differ."""
    if number(record) % 10 == 7:
        exec(DEEP, {})
    say(file, "done", number(record))


#: Fifty functions that call each other; the last one raises.
DEEP = "\n".join(
    [
        *(f"def f{n}(): f{n + 1}()" for n in range(50)),
        "def f50(): raise ValueError('is a seven')",
        "f0()",
    ]
)


def fails_on_sevens_and_dies(record: Any, file: Path) -> None:
    """The worker dies once between a dead letter and the rejection of its record."""
    from workers import dead_letters

    mark = Path(f"{file}.died")
    write = dead_letters.DeadLetters.append

    def append_and_die(self: Any, *args: Any) -> None:
        write(self, *args)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    dead_letters.DeadLetters.append = append_and_die  # type: ignore[method-assign]
    fails_on_sevens(record, file)


def waits_for_a_kill(record: Any, file: Path) -> None:
    """The first attempt waits until its process is killed."""
    say(file, "begin", number(record), os.getpid())
    if workers.current().attempt == 1:
        passes(60.0)


def does_nothing(record: Any, file: Path) -> None:
    """Not even a line in a file."""


def dies_before_the_ack(record: Any, file: Path) -> None:
    """The worker is killed once, after the handler has returned."""
    from workers.settlement import Settlement

    mark = Path(f"{file}.died")
    done = Settlement.done

    def note_and_die(self: Any, task: Any) -> int:
        if not mark.exists():
            mark.touch()
            self._consumer = _Killer()
        return done(self, task)

    Settlement.done = note_and_die  # type: ignore[method-assign]


class _Killer:
    def ack(self, *records: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
