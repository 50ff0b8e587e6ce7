"""A program with a durable executor that keeps books, and may be killed at any step of its own.

    python -m tests.workers.durable_program BUS DIRECTORY [WHO STEP WHEN COUNT]

It submits the numbers that its book does not have, waits for all results, and says "over". What it
has submitted and what it was given stands in files, one line each. With a STEP it, or a worker, or
all of them, are killed before or after the COUNT-th call of that function.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus import Admin, Producer, ShareConsumer
from tests.workers.tasks import append
from workers import Executor
from workers.durable_dispatch import DurableDispatch
from workers.task_life import TaskLife
from workers.task_topics import TaskTopics
from workers.tickets import Tickets

TASKS = 12
CANCELLED = 7
NAME = "books"
PATIENCE_S = 50.0

#: The steps of the program, and of a worker: who does it.
PROGRAM: dict[str, tuple[type, str]] = {
    "tickets named": (Tickets, "named"),
    "topics made": (TaskTopics, "make"),
    "group forgotten": (TaskTopics, "forget_group"),
    "task taken over": (Tickets, "take_over"),
    "tickets ready": (Tickets, "make_ready"),
    "ticket issued": (Tickets, "issue"),
    "record sent": (Producer, "send"),
    "task sent": (DurableDispatch, "_sent"),
    "task withdrawn": (Tickets, "withdraw"),
    "word said": (DurableDispatch, "_say"),
    "result taken": (DurableDispatch, "_complete"),
    "records deleted": (Admin, "delete_records"),
    "topics deleted": (Admin, "delete_topics"),
    "group deleted": (Admin, "delete_groups"),
    "tickets removed": (Tickets, "remove"),
}
WORKER: dict[str, tuple[type, str]] = {
    "task begun": (Tickets, "begin"),
    "task answered": (TaskLife, "_answer"),
    "result sent": (TaskLife, "_send"),
    "task done": (Tickets, "done"),
    "tasks acknowledged": (ShareConsumer, "ack"),
}


class Book:
    """Lines of text, each written with one call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, *words: object) -> None:
        append(self._path, " ".join(map(str, words)))

    def read(self) -> dict[int, int]:
        """Numbers, and what stands behind them."""
        text = self._path.read_text() if self._path.exists() else ""
        pairs = (line.split() for line in text.splitlines())
        return {int(number): int(other) for number, other in pairs}


def kill_all(pids: list[int]) -> None:
    """At one moment, as far as they can see."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in [*pids, os.getpid()]:
        os.kill(pid, signal.SIGKILL)


def doom(where: tuple[type, str], when: str, count: int, end: Callable[[], None]) -> None:
    """The count-th call of a method is the last one."""
    owner, name = where
    plain = inspect.getattr_static(owner, name)
    function = plain.__func__ if isinstance(plain, classmethod) else getattr(owner, name)
    calls = 0

    def doomed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            end()
        result = function(*args, **kwargs)
        if calls == count and when == "after":
            end()
        return result

    setattr(owner, name, classmethod(doomed) if isinstance(plain, classmethod) else doomed)


def doom_worker(step: str, when: str, count: int, flag: str, program: int) -> None:
    """An initializer: one worker dies of it, with the program if that is not 0."""

    def end() -> None:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        kill_all([program] if program else [])

    doom(WORKER[step], when, count, end)


def run(bus: Path, directory: Path, who: str, step: str, when: str, count: int) -> None:
    """See above. who: "program", "all", "worker" or "both" (a worker kills the program, too)."""
    submitted, given = Book(directory / "submitted"), Book(directory / "given")
    made: list[Executor] = []
    options: dict[str, Any] = {}
    if step in PROGRAM:
        end = partial_end(made, who == "all")
        doom(PROGRAM[step], when, count, end)
    elif step:
        program = os.getpid() if who == "both" else 0
        flag = str(directory / "dead")
        options = {"initializer": doom_worker, "initargs": (step, when, count, flag, program)}
    with Executor(
        1, bootstrap_servers=bus, durable=True, name=NAME, retries=int(who == "worker"), **options
    ) as executor:
        made.append(executor)
        work(executor, directory, submitted, given)
    print("over", flush=True)


def partial_end(made: list[Executor], with_workers: bool) -> Callable[[], None]:
    """Kills this program, with its workers or without."""
    return lambda: kill_all([pid for one in made for pid in one.pids()] if with_workers else [])


def work(executor: Executor, directory: Path, submitted: Book, given: Book) -> None:
    """All that is not in the books."""
    for number in set(range(TASKS)) - set(submitted.read()):
        future = executor.submit(append, directory / "lines", number)
        submitted.write(number, future.task)
        if number == CANCELLED:
            future.cancel()
    known = {task: number for number, task in submitted.read().items()}
    for future in executor.pending():
        if not future.cancelled():
            future.result(PATIENCE_S)
        given.write(future.task, known.get(future.task, -1))
    for task in set(known) - set(given.read()):
        collect(executor, task, known[task], given)
    executor._durable._trim()


def collect(executor: Executor, task: int, number: int, given: Book) -> None:
    """What pending() does not list: it was fetched, or cancelled."""
    if number != CANCELLED:
        executor.future(task).result(PATIENCE_S)
    given.write(task, number)


if __name__ == "__main__":
    bus_path, home, *doomed_at = sys.argv[1:]
    who_dies, at_step, moment, calls = doomed_at or ("", "", "", "0")
    run(Path(bus_path), Path(home), who_dies, at_step, moment, int(calls))
