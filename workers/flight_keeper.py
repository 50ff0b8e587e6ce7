"""A supervisor's part in the flight record: it sends what workers noted, and notes their deaths.

It stands between the supervisor and the observer of the pool's owner, who hears all as before. A
worker that is killed leaves its notes in the ring on the board; they are sent as it is buried, and
after them one note for each task that it had in hand.
"""

import time
from typing import Literal, Self

from workers.attempts import Outcome
from workers.block import Task
from workers.board import Board
from workers.errors import CrashLoopError, PoolOptionError
from workers.flight_note import packed
from workers.flight_recorder import CALL
from workers.flight_topic import CONFIGS, FlightTopic, Keeping, make_topic
from workers.layout import Word
from workers.observer import End, Observer
from workers.order import Order
from workers.verdicts import Kind


class FlightKeeper(Observer):
    """Sends notes of a pool's workers from the supervisor's thread."""

    def __init__(self, keeping: Keeping, order: Order, observer: Observer | None) -> None:
        """Sends nothing before `open`."""
        self._keeping = keeping
        self._order = order
        self._observer = observer or Observer()
        self._board: Board | None = None
        self._topic: FlightTopic | None = None

    @classmethod
    def of(cls, keeping: bool | Keeping, order: Order, observer: Observer | None) -> Self | None:
        """What the option says; None: no record. Raises PoolOptionError."""
        if keeping is False:
            return None
        kept: Literal["memory", "durable"] = "memory" if keeping is True else keeping
        if kept not in CONFIGS:
            raise PoolOptionError(
                f"flight_record must be True, False or one of {list(CONFIGS)}, not {keeping!r}"
            )
        return cls(kept, order, observer)

    def open(self, board: Board) -> None:
        """Makes the topic. Raises the bus's errors."""
        make_topic(self._order.address, self._order.group, self._keeping)
        self._topic = FlightTopic(self._order.address, self._order.group)
        self._board = board

    def close(self) -> None:
        """Leaves the bus. Idempotent."""
        if self._topic is not None:
            self._topic.close()

    # ------------------------------------------------------------------ as an observer

    def on_tick(self) -> None:
        assert self._board is not None
        for number, block in enumerate(self._board.blocks):
            self._send(number, block[Word.PID])
        self._observer.on_tick()

    def on_message(self, number: int, pid: int, data: bytes) -> None:
        if data == CALL:
            self._send(number, pid)
        else:
            self._observer.on_message(number, pid, data)

    def on_end(self, end: End) -> None:
        assert self._topic is not None
        self._send(end.number, end.pid)
        judged = zip(end.tasks, end.verdicts, strict=True)
        died = b"".join(self._death(end, task, kind) for task, kind in judged)
        if died:
            self._topic.send(died, end.pid, self._order.topics)
        self._observer.on_end(end)

    def on_ready(self, number: int, pid: int) -> None:
        self._observer.on_ready(number, pid)

    def on_give_up(self, error: CrashLoopError) -> None:
        self._observer.on_give_up(error)

    # ------------------------------------------------------------------ details

    def _send(self, number: int, pid: int) -> None:
        assert self._board is not None and self._topic is not None
        notes = self._board.rings[number].take()
        if notes:
            self._topic.send(notes, pid, self._order.topics)

    def _death(self, end: End, task: Task, kind: Kind) -> bytes:
        took_ns = time.monotonic_ns() - task.since_ns
        begun_ns = time.time_ns() - took_ns
        text = f"{end.exit}; counted as {kind.name.lower()}"
        return packed(Outcome.DIED, 0, *task.where, begun_ns, took_ns, 0, text)
