"""A share group of one member on a topic in this process: what bus.ShareConsumer does, to a test.

Claims, acknowledgements, counts and delays are those of design.md, "Share groups", without other
members, without partitions that fill up, and without a disk. tests/workers/test_testing_queue.py
holds it to the real one.
"""

import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import bus
from bus.errors import IllegalStateError
from workers.testing.record import Record

_COUNT_MAX: Final = 255
_NS_PER_MS: Final = 1_000_000


class State(Enum):
    """What becomes of a record; those of the ack table."""

    READY = "ready"
    CLAIMED = "claimed"
    RUNNING = "running"
    DELAYED = "delayed"
    DONE = "done"
    DEAD = "dead"


@dataclass(eq=False)
class Slot:
    """A record and where it stands."""

    record: Record
    state: State = State.READY
    due_ns: int = 0
    deliveries: int = 0
    failure: int = 0
    timeout: int = 0
    crash: int = 0
    oom: int = 0
    #: it was given out before: such ones come first
    came_back: bool = False

    def count(self, cause: str) -> None:
        """One more of a kind."""
        setattr(self, cause, min(getattr(self, cause) + 1, _COUNT_MAX))


class Queue:
    """The topic and the group. Attribute: `slots`, in the order in which they were sent."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self._by_place: dict[tuple[int, int], Slot] = {}
        self._held: dict[int, Slot] = {}
        #: raised where a member begins with a record whose process is no more
        self.death: BaseException | None = None

    def add(self, record: Record) -> None:
        """A record is sent."""
        slot = Slot(record)
        self.slots.append(slot)
        self._by_place[record.partition, record.offset] = slot

    # ------------------------------------------------------------------ as bus.ShareConsumer

    def poll(
        self, timeout_ms: float = 0, max_records: int | None = None, prefetch: bool = False
    ) -> dict[bus.TopicPartition, list[Record]]:
        """Claims what is there now; never waits."""
        self._wake_delayed()
        ready = [slot for slot in self.slots if slot.state is State.READY]
        ready.sort(key=lambda slot: not slot.came_back)
        found: dict[bus.TopicPartition, list[Record]] = {}
        for slot in ready[:max_records]:
            slot.state = State.CLAIMED if prefetch else State.RUNNING
            slot.deliveries = min(slot.deliveries + 1, _COUNT_MAX)
            self._held[id(slot.record)] = slot
            found.setdefault(slot.record.topic_partition, []).append(slot.record)
        return found

    def start(self, record: Any) -> bool:
        """Begins with a reserved record."""
        if self.death is not None:
            raise self.death
        slot = self._held.get(id(record))
        if slot is None:
            return False
        slot.state = State.RUNNING
        return True

    def ack(self, *records: Any) -> None:
        """They are done."""
        for record in records:
            self._settle(record, State.DONE)

    def nack(self, record: Any, delay_ms: float = 0, cause: str = "failure") -> None:
        """It comes again after the delay, and one of `cause` is counted."""
        slot = self._held_slot(record)
        slot.count(cause)
        slot.state = State.RUNNING  # it counts as begun with
        self._back(record, delay_ms)

    def release(self, *records: Any, delay_ms: float = 0) -> None:
        """They come again, and nothing is counted."""
        for record in records:
            self._back(record, delay_ms)

    def reject(self, record: Any) -> None:
        """Nobody gets it again."""
        self._settle(record, State.DEAD)

    def extend(self, record: Any, ms: float) -> None:
        """The work goes on."""
        self._held_slot(record)

    def attempts(self, record: Any) -> bus.Attempts:
        """How often it was tried before."""
        slot = self.slot(record.partition, record.offset)
        if slot.state in (State.DONE, State.DEAD):
            raise IllegalStateError(f"{record!r} is done")
        return bus.Attempts(slot.deliveries, slot.failure, slot.timeout, slot.crash, slot.oom)

    def close(self) -> None:
        """What is held comes again."""
        self._take_back(counted=False)

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ for the runner

    def die(self) -> None:
        """The member's process is no more: a crash is counted for what it had begun with."""
        self.death = None
        self._take_back(counted=True)

    def has_ready(self) -> bool:
        """True if poll() would give something."""
        self._wake_delayed()
        return any(slot.state is State.READY for slot in self.slots)

    def next_due_ns(self) -> int | None:
        """When the next delayed record comes (monotonic ns); None if there is none."""
        return min((one.due_ns for one in self.slots if one.state is State.DELAYED), default=None)

    def slot(self, partition: int, offset: int) -> Slot:
        """Where the record of a partition and offset stands."""
        return self._by_place[partition, offset]

    def in_state(self, *states: State) -> list[Slot]:
        """In the order in which they were sent."""
        return [slot for slot in self.slots if slot.state in states]

    # ------------------------------------------------------------------ details

    def _held_slot(self, record: Any) -> Slot:
        slot = self._held.get(id(record))
        if slot is None:
            raise IllegalStateError(f"this consumer does not have {record!r}")
        return slot

    def _settle(self, record: Any, state: State) -> None:
        self._held_slot(record).state = state
        del self._held[id(record)]

    def _back(self, record: Any, delay_ms: float) -> None:
        slot = self._held_slot(record)
        if slot.state is State.CLAIMED:
            slot.deliveries -= 1  # nobody has begun with it
        slot.came_back = True
        slot.due_ns = time.monotonic_ns() + round(delay_ms * _NS_PER_MS)
        self._settle(record, State.DELAYED if delay_ms else State.READY)

    def _take_back(self, *, counted: bool) -> None:
        for slot in list(self._held.values()):
            if counted and slot.state is State.RUNNING:
                slot.count("crash")
            self._back(slot.record, 0)

    def _wake_delayed(self) -> None:
        now_ns = time.monotonic_ns()
        for slot in self.slots:
            if slot.state is State.DELAYED and slot.due_ns <= now_ns:
                slot.state = State.READY
