"""The scheduler: brings scheduled tasks to their topics when they are due.

    with workers.Scheduler():      a thread of this process; or
    python -m workers scheduler    a process of its own

Any number of them may run on a bus: each lane (workers/lanes.py) is moved by one of them at a time,
and by another when that one ends or dies. A lane whose head is not ready is paused until then.
"""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import bus
from bus import ConsumerRebalanceListener, ConsumerRecord, OffsetAndMetadata, TopicPartition
from bus.errors import BusError, CommitFailedError, RebalanceInProgressError
from workers.errors import ScheduleError
from workers.lanes import TOPIC, Mark, Now, Plan
from workers.mover import GROUP, Left, Mover
from workers.scheduling import make_topic

logger = logging.getLogger(__name__)

BATCH: Final = 500
#: The longest sleep: the wall clock is looked at, which may have been set.
SLICE_NS: Final = 500_000_000
#: Between two times at which what was moved is deleted.
DELETE_S: Final = 10.0
#: After an error of the bus.
PAUSE_S: Final = 1.0
_NS_PER_MS: Final = 1_000_000


class Scheduler:
    """Moves tasks in a thread (`start`, `stop`, or `with`), or in this one (`run`).

    bootstrap_servers: directory of the bus; None is $BUS_DIR or the user's own bus.
    """

    def __init__(self, bootstrap_servers: Any = None) -> None:
        self._address = bootstrap_servers
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Moves tasks in a thread of its own from now on. Raises the bus's errors."""
        make_topic(self._address)
        self._thread = threading.Thread(target=self.run, name="scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it, and waits for that: half a second at most, unless the disk is slow. Idempotent.

        What is not due stays where it is.
        """
        self.stop_soon()
        if self._thread is not None:
            self._thread.join()

    def stop_soon(self) -> None:
        """The same, without waiting; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Moves tasks until another thread calls stop()."""
        while not self._stopping.is_set():
            try:
                self._work()
            except (BusError, OSError):
                if self._stopping.is_set():
                    return
                logger.exception("the scheduler begins anew in %.0f s", PAUSE_S)
                self._stopping.wait(PAUSE_S)

    def _work(self) -> None:
        make_topic(self._address)
        mover = Mover(self._address)
        try:
            with (
                bus.Admin(self._address) as admin,
                bus.Consumer(
                    bootstrap_servers=self._address,
                    group_id=GROUP,
                    client_id="scheduler",
                    auto_offset_reset="earliest",
                    enable_auto_commit=False,
                ) as consumer,
            ):
                _Lanes(consumer, mover, admin, self._stopping).follow()
        finally:
            mover.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Lanes(ConsumerRebalanceListener):
    """The lanes that one scheduler has."""

    def __init__(
        self, consumer: bus.Consumer, mover: Mover, admin: bus.Admin, stopping: threading.Event
    ) -> None:
        self._consumer = consumer
        self._mover = mover
        self._admin = admin
        self._stopping = stopping
        self._clock_ns = Now.read().offset_ns
        #: when a paused lane is to be read again, by CLOCK_BOOTTIME
        self._wake_ns: dict[TopicPartition, int] = {}
        #: up to these offsets what waits is looked at, whatever its wait: the clock was set
        self._anew: dict[TopicPartition, int] = {}
        self._left: dict[TopicPartition, Left] = {}
        self._moved: dict[TopicPartition, int] = {}
        self._delete_due_s = time.monotonic() + DELETE_S

    def follow(self) -> None:
        """Until it is to stop."""
        self._consumer.subscribe([TOPIC], listener=self)
        while not self._stopping.is_set():
            now = Now.read()
            self._look_at_clock(now)
            self._wake(now)
            found = self._consumer.poll(self._sleep_ms(now), max_records=BATCH)
            for lane, records in found.items():
                self._move(lane, records)
            if time.monotonic() >= self._delete_due_s:
                self._delete_moved()

    # ------------------------------------------------------------------ coming and going

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Finds out what the one before has done."""
        now = Now.read()
        for lane in assigned:
            committed = self._consumer.committed(lane, metadata=True)
            if not isinstance(committed, OffsetAndMetadata):
                continue
            mark = Mark.of(committed.metadata)
            if mark is None:
                continue
            self._left[lane] = self._mover.left(lane.partition, committed.offset, mark)
            if mark.was_set(now):
                self._look_anew(lane)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forgets them."""
        for lane in revoked:
            self._left.pop(lane, None)
            for offsets in (self._wake_ns, self._anew, self._moved):
                offsets.pop(lane, None)
        self._consumer.resume(*revoked)

    # ------------------------------------------------------------------ waiting

    def _look_at_clock(self, now: Now) -> None:
        if not Mark(now.boot, self._clock_ns).was_set(now):
            return
        seconds = (now.offset_ns - self._clock_ns) / 1e9
        logger.warning("the clock was set by %.1f s: all scheduled tasks are looked at", seconds)
        self._clock_ns = now.offset_ns
        for lane in self._consumer.assignment():
            self._look_anew(lane)

    def _look_anew(self, lane: TopicPartition) -> None:
        self._anew[lane] = self._consumer.end_offsets([lane])[lane]
        self._wake_ns[lane] = 0

    def _wake(self, now: Now) -> None:
        ready = [lane for lane, at_ns in self._wake_ns.items() if at_ns <= now.boot_ns]
        for lane in ready:
            del self._wake_ns[lane]
        if ready:
            self._consumer.resume(*ready)

    def _sleep_ms(self, now: Now) -> float:
        waits = [at_ns - now.boot_ns for at_ns in self._wake_ns.values()]
        return max(0, min([SLICE_NS, *waits])) / _NS_PER_MS

    # ------------------------------------------------------------------ moving

    def _move(self, lane: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        now = Now.read()
        ready = list(self._ready(lane, records, now))
        if not ready:
            return
        after, left = ready[-1].offset + 1, self._left.pop(lane, Left())
        try:
            self._mover.move(self._consumer, lane, ready, left, now)
        except (CommitFailedError, RebalanceInProgressError) as error:
            logger.warning("lane %d has gone to another scheduler: %s", lane.partition, error)
            return
        if after < left.until:
            self._left[lane] = left
        self._moved[lane] = after

    def _ready(
        self, lane: TopicPartition, records: Sequence[ConsumerRecord], now: Now
    ) -> Iterable[ConsumerRecord]:
        """The records up to the first one that has to wait, at which the lane is paused."""
        anew = self._anew.get(lane, 0)
        for record in records:
            wait_ns = 0 if record.offset < anew else _wait_ns(record, now)
            if wait_ns > 0:
                self._consumer.seek(lane, record.offset)
                self._consumer.pause(lane)
                self._wake_ns[lane] = now.boot_ns + wait_ns
                return
            yield record

    def _delete_moved(self) -> None:
        """What was moved is deleted; whole segments give their room back."""
        self._delete_due_s = time.monotonic() + DELETE_S
        moved, self._moved = self._moved, {}
        if moved:
            self._admin.delete_records(moved)


def _wait_ns(record: ConsumerRecord, now: Now) -> int:
    try:
        return Plan.of(record.headers).wait_ns(now)
    except ScheduleError:
        return 0  # it is given up at once
