"""Supervised workers for tests; nothing of them may be left when a test ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.waiting import eventually
from workers import Observer, Supervisor
from workers.board import paths
from workers.observer import End

T = TypeVar("T")

#: Starting an interpreter may take seconds on a busy machine.
PATIENCE_S = 50.0


class Seen(Observer):
    """Keeps what the supervisor told."""

    def __init__(self) -> None:
        self.ready: list[int] = []
        self.messages: list[bytes] = []
        self.ends: list[End] = []
        self.given_up: list[Exception] = []

    def on_ready(self, number: int, pid: int) -> None:
        self.ready.append(pid)

    def on_message(self, number: int, pid: int, data: bytes) -> None:
        self.messages.append(data)

    def on_end(self, end: End) -> None:
        self.ends.append(end)

    def on_give_up(self, error: Exception) -> None:
        self.given_up.append(error)


def is_alive(pid: int) -> bool:
    """True if the process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def soon(condition: Callable[[], T], what: str) -> T:
    """Waits for the condition, and returns its value."""
    return eventually(condition, PATIENCE_S, what)


@contextmanager
def supervised(
    life: Callable[..., None], processes: int = 1, **options: Any
) -> Iterator[tuple[Supervisor, Seen]]:
    """A started supervisor; it is stopped with the block, and what it made is looked for."""
    seen = Seen()
    supervisor = Supervisor(life, processes, description={"test": True}, observer=seen, **options)
    pids: set[int] = set()
    supervisor.start()
    try:
        yield supervisor, seen
    finally:
        pids.update(supervisor.pids(), seen.ready)
        supervisor.stop()
        assert supervisor.join(PATIENCE_S), "the supervisor did not end"
        soon(lambda: not any(map(is_alive, pids)), f"the end of workers {pids}")
        assert supervisor.board.path not in paths()


def ready_pids(seen: Seen, count: int) -> list[int]:
    """The workers that have got ready, once there are so many."""
    soon(lambda: len(seen.ready) >= count, f"{count} workers are ready")
    return seen.ready[:]
