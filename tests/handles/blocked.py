"""Calls that block: what to hold them up with, and how to see that they do."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import bus
from tests.broker.rig import status
from tests.waiting import eventually, never

MIB = 1 << 20
CHUNK = bytes(64 << 10)
#: a task that used no processor for so long waits, and does not just pause
QUIET_S: Final = 0.05


def is_asleep(pid: int) -> bool:
    """True if the main thread of a process sleeps, and goes on doing so."""
    return _sleeps(Path(f"/proc/{pid}/task/{pid}/stat"))


def is_thread_asleep(tid: int | None) -> bool:
    """The same of a thread of this process."""
    return tid is not None and _sleeps(Path(f"/proc/self/task/{tid}/stat"))


def _sleeps(stat: Path) -> bool:
    """True if a task sleeps now, and used no processor for a while."""
    before = _looked_at(stat)
    try:
        never(lambda: _looked_at(stat) != before, QUIET_S)
    except AssertionError:
        return False
    return before[0] == "S"


def _looked_at(stat: Path) -> tuple[str, ...]:
    """State, and processor time in user and kernel mode."""
    words = stat.read_text().rpartition(")")[2].split()
    return words[0], words[11], words[12]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes do nothing, as under a debugger, until the block ends."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def replica_pid(path: Path, topic: str = "t") -> int:
    """The pid of the replica of partition 0 of the topic, once it runs."""

    def running() -> int:
        rows = [row for row in status(path)["replicas"] if row["topic"] == topic]
        return int(rows[0]["pid"]) if rows and rows[0]["state"] == "running" else 0

    return eventually(running, what=f"a replica of {topic}-0")


def make_queue(path: Path, name: str = "q") -> None:
    """A small memory topic, in which a consumer that does not read holds every sender up."""
    with bus.Admin(path) as admin:
        configs = {"durability": "memory", "hot.bytes": str(4 * MIB)}
        admin.create_topics([bus.NewTopic(name, topic_configs=configs)])


def fill_queue(producer: bus.Producer, name: str = "q", most: int = 1000) -> None:
    """Sends until the queue is full, and then stays in `send`."""
    for _ in range(most):
        producer.send(name, CHUNK)
    raise AssertionError("the queue is never full")


@dataclass
class Outcome:
    """What a call in another thread came to."""

    thread: threading.Thread
    results: list[Any] = field(default_factory=list)

    def wait_asleep(self) -> "Outcome":
        """Returns when the call blocks, or is over."""
        eventually(lambda: not self.thread.is_alive() or self._sleeps(), what="the call blocks")
        return self

    def _sleeps(self) -> bool:
        return _sleeps(Path(f"/proc/self/task/{self.thread.native_id}/stat"))

    def result(self, timeout_s: float = 10.0) -> Any:
        """Its value, or the exception that it raised."""
        self.thread.join(timeout_s)
        assert not self.thread.is_alive(), "the call never returned"
        return self.results[0]


def in_thread(call: Callable[[], Any]) -> Outcome:
    """Starts the call in a thread of its own."""

    def run() -> None:
        try:
            outcome.results.append(call())
        except Exception as error:  # noqa: BLE001 - the outcome is what the test looks at
            outcome.results.append(error)

    outcome = Outcome(threading.Thread(target=run, daemon=True))
    outcome.thread.start()
    return outcome
