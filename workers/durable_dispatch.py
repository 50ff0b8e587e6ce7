"""The own side of a durable executor: what is on the bus outlives the program, however it ends.

    submit ─► tasks ─► workers ─► results ─► future         as of any executor, and besides:
                                     ▲
                     CANCELLED, FETCHED, FORGOTTEN ──────── future.cancel(), result(), forget()

The logs are the truth. A new executor of the name reads them (workers/history.py): tasks without a
result are pending, those with one get it again, unless they were cancelled or forgotten. The
tickets outlive a kill; if they are gone, as after a reboot, the group begins anew, and tasks that
have a result have no ticket, so that they are only acknowledged.

**What is deleted.** The log of tasks up to the first one that is wanted; then that of results up
to the first record about any task that is still in the first log: with less it would be pending
again. Results that were fetched are wanted for RETENTION_S; those that were not, until they are.
"""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from bus import Admin, ConsumerRecord, RecordFuture, TopicPartition
from bus.errors import BusError, ClosedError
from workers import history
from workers.dispatch import Dispatch, logger
from workers.durable_future import DurableFuture
from workers.envelope import Kind, head, seal_numbers
from workers.errors import DetachedError, UnknownTaskError
from workers.supervisor import Supervisor
from workers.task_future import TaskFuture
from workers.task_topics import TaskTopics
from workers.tickets import PLACES, Tickets

#: A result that was fetched can be had again for so long, by the number of its task.
RETENTION_S: Final = 3600.0
#: Between two looks at what can be deleted.
TRIM_S: Final = 10.0
#: The first number of a program tells the second of its start: none is ever given twice.
_SECOND_BITS: Final = 24


@dataclass(slots=True)
class Kept:
    """A task that is wanted, and where the two logs have it. None: not known yet."""

    future: DurableFuture[Any]
    task_at: int | None = None
    result_at: int | None = None
    came_s: float = 0.0
    is_fetched: bool = False


class DurableDispatch(Dispatch):
    """See above."""

    def __init__(self, topics: TaskTopics, tickets: Tickets) -> None:
        """Reads what is there; starts nothing yet. Raises BusError."""
        self._kept: dict[int, Kept] = {}
        #: of tasks that nobody wants: where they are in both logs
        self._dropped: list[tuple[int, int]] = []
        #: cancelled before it was known where they are in their log
        self._homeless: dict[int, int] = {}
        #: of the tasks of earlier programs, by place
        self._places: dict[int, int] = {}
        self._tasks_end = self._results_end = 0
        self._next_trim_s = time.monotonic() + TRIM_S
        self._leaving = False
        super().__init__(topics, tickets)
        self._tasks = TopicPartition(topics.tasks, 0)
        try:
            self._take_over(history.read(self._consumer, self._tasks, self._results))
        except BaseException:
            self.detach()
            raise

    # ------------------------------------------------------------------ what was there before

    def _take_over(self, found: history.History) -> None:
        if not self._tickets.is_ready:
            self._topics.forget_group()
        self._numbers = itertools.count(_first_number(found.last, time.time()))
        begin = self._consumer.position(self._results)
        for task, submitted in found.tasks.items():
            self._tasks_end = submitted.offset + 1
            settled = found.settled.get(task)
            if task in found.gone and settled is not None:
                self._dropped.append((submitted.offset, settled))
                continue
            future = self._future(task)
            future.is_chunk = submitted.is_chunk
            kept = self._kept[task]
            kept.task_at, kept.is_fetched = submitted.offset, task in found.fetched
            self._pending[task] = future
            self._places[task % PLACES] = task
            if settled is not None:
                begin = min(begin, settled)
            elif not self._tickets.take_over(task):
                self._withdrawn(task)
                self._pending.pop(task)
        self._results_end = begin
        self._consumer.seek(self._results, begin)
        self._tickets.make_ready()

    # ------------------------------------------------------------------ tasks

    def _has_place(self, task: int) -> bool:
        earlier = self._places.get(task % PLACES)
        return earlier not in self._pending and super()._has_place(task)

    def _future(self, task: int) -> DurableFuture[Any]:
        future: DurableFuture[Any] = DurableFuture(task, self)
        self._kept[task] = Kept(future)
        return future

    def _sent(self, task: int, record: RecordFuture) -> None:
        with self._changing:
            kept = self._kept.get(task)
            if kept is not None:
                kept.task_at = record.offset
            elif (at := self._homeless.pop(task, None)) is not None:
                self._dropped.append((record.offset, at))
            self._tasks_end = max(self._tasks_end, record.offset + 1)

    def _forget(self, task: int) -> TaskFuture[Any] | None:
        with self._changing:
            kept = self._kept.get(task)
            if kept is not None and kept.task_at is None:  # it could not be sent
                self._kept.pop(task)
        return super()._forget(task)

    def _complete(self, record: ConsumerRecord) -> None:
        self._results_end = record.offset + 1
        _, task = head(record.view())
        kept = self._kept.get(task)
        if kept is not None and kept.result_at is None:
            kept.result_at, kept.came_s = record.offset, record.timestamp / 1000
        super()._complete(record)

    # ------------------------------------------------------------------ what becomes of them

    def _withdrawn(self, task: int) -> None:
        self._drop(task, self._say(Kind.CANCELLED, [task]))

    def fetched(self, task: int) -> None:
        """The program has the result."""
        kept = self._kept.get(task)
        if kept is None or kept.is_fetched:
            return
        kept.is_fetched = True
        try:
            self._say(Kind.FETCHED, [task])
        except ClosedError:  # after the shutdown: the next executor of the name gives it again
            return

    def forget(self, tasks: Iterable[int]) -> None:
        """Nobody wants their results any more. Raises UnknownTaskError, ValueError."""
        listed = list(tasks)
        for task in listed:
            if not self.future(task).done():
                raise ValueError(f"task {task} is not done; cancel it, or wait for it")
        if not listed:
            return
        at = self._say(Kind.FORGOTTEN, listed)
        for task in listed:
            self._drop(task, at)

    def future(self, task: int) -> DurableFuture[Any]:
        """Raises UnknownTaskError."""
        kept = self._kept.get(task)
        if kept is None:
            raise UnknownTaskError(
                f"there is no task {task!r}: it was forgotten or cancelled, or fetched more than"
                f" {RETENTION_S:g} s ago"
            )
        return kept.future

    def pending(self) -> list[TaskFuture[Any]]:
        """Of tasks whose results were not fetched, in the order of submission."""
        with self._changing:
            kept = sorted(self._kept.items())
        return [one.future for _, one in kept if not one.is_fetched]

    def _say(self, kind: Kind, tasks: list[int]) -> int:
        return self._producer.send(self._topics.results, seal_numbers(kind, tasks)).offset

    def _drop(self, task: int, at: int) -> None:
        with self._changing:
            kept = self._kept.pop(task, None)
            if kept is None:
                return
            first = at if kept.result_at is None else kept.result_at
            if kept.task_at is None:
                self._homeless[task] = first
            else:
                self._dropped.append((kept.task_at, first))

    # ------------------------------------------------------------------ deleting

    def _look_after(self) -> None:
        if time.monotonic() >= self._next_trim_s:
            self._trim()
            self._next_trim_s = time.monotonic() + TRIM_S

    def _trim(self) -> None:
        """In the thread that reads results alone: `_results_end` stands still meanwhile."""
        with self._changing:
            self._expire(time.time() - RETENTION_S)
            lows = self._lows()
        if lows is None:
            return  # a task is being sent at this moment; the next look will know where it is
        try:
            with Admin(self._topics.address, autostart=False) as admin:
                for partition, low in zip((self._tasks, self._results), lows, strict=True):
                    admin.delete_records({partition: low})
        except BusError:  # nothing is lost by it; the next look tries again
            logger.warning("what nobody wants could not be deleted", exc_info=True)

    def _expire(self, before_s: float) -> None:
        for task, one in list(self._kept.items()):
            if one.is_fetched and one.result_at is not None and one.came_s < before_s:
                self._drop(task, one.result_at)

    def _lows(self) -> tuple[int, int] | None:
        """The first offsets of both logs that are to stay."""
        wanted = list(self._kept.values())
        tasks_at = [one.task_at for one in wanted if one.task_at is not None]
        if len(tasks_at) < len(wanted) or self._homeless:
            return None
        tasks_low = min(tasks_at, default=self._tasks_end)
        self._dropped = [pair for pair in self._dropped if pair[0] >= tasks_low]
        results_at = [one.result_at for one in wanted if one.result_at is not None]
        results_at += [at for _, at in self._dropped]
        return tasks_low, min(results_at, default=self._results_end)

    # ------------------------------------------------------------------ the end

    def flush(self, timeout_s: float | None) -> None:
        """Returns when all that was submitted is safe from a power loss. Raises BusTimeoutError."""
        self._producer.flush(timeout_s)

    def leave(self) -> None:
        """Ends the workers when they have done what they have in hand. Does not wait."""
        with self._changing:
            self._closing = self._leaving = True
        self._consumer.close()

    def _end_workers(self, supervisor: Supervisor) -> None:
        if self._leaving:
            supervisor.drain()
        else:
            supervisor.stop()

    def _tidy_up(self) -> None:
        self._tell_the_pending()
        wanted = any(not one.is_fetched for one in list(self._kept.values()))
        if wanted or self._failure is not None:
            self._trim()
            self.detach()
            self._tickets.close()
            return
        self.detach()
        self._topics.close()
        self._tickets.remove()

    def _tell_the_pending(self) -> None:
        for task in list(self._pending):
            future = self._pending.pop(task, None)
            if future is not None and not future.done():
                future.set_exception(
                    DetachedError(f"task {task} was not done yet; the next executor has it")
                )


def _first_number(last: int, now_s: float) -> int:
    """Above all numbers that were ever given; its place follows that of the last one known."""
    return max(last + 1, (int(now_s) << _SECOND_BITS) + (last + 1) % PLACES)
