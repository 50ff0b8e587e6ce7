"""A worker with a handler that is a function: one record after the other, in the main thread."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import bus
from bus import ConsumerRecord
from bus.errors import ClosedError, CorruptRecordError
from workers.current_task import CurrentTask, enter
from workers.errors import TaskInterrupted, TaskTimeout
from workers.layout import Word
from workers.order import Order
from workers.post import Post
from workers.prefetch import Prefetch
from workers.retry import trouble_of
from workers.settlement import Settlement, logger

#: A sleep of a worker without work; a drain wakes it.
POLL_MS: Final = 1000.0
_SLOT: Final = 0


def serve(post: Post, order: Order) -> None:
    """The life of a worker with such a handler."""
    began_ns = time.monotonic_ns()
    state = order.handler.init() if order.handler.init else None
    init_ns = time.monotonic_ns() - began_ns
    try:
        with order.join(post.number) as consumer:
            Serving(post, order, consumer, state).run(init_ns)
    finally:
        order.handler.leave(state)


class Serving:
    """Claims, calls the handler, settles. `run` is all of it, `step` is one claim."""

    def __init__(self, post: Post, order: Order, consumer: bus.ShareConsumer, state: Any) -> None:
        self._post = post
        self._consumer = consumer
        self._handle = order.handler.bound(state)
        self._settlement = Settlement(post, order, consumer)
        self._prefetch = Prefetch()
        self._left = post.max_tasks or 0
        self._polling = False

    def run(self, init_ns: int) -> None:
        """Until the drain."""
        post = self._post
        post.on_drain = self._wake
        post.ready(init_ns)
        try:
            while not post.draining:
                self.step()
        finally:
            self._settlement.close()

    def step(self) -> None:
        """Claims once, waiting for a while if there is nothing, and works on what it got."""
        for record in self._claim():
            if self._post.draining:
                return  # the others go back as the consumer is closed
            self._work_on(record)

    def _wake(self) -> None:
        # Nothing is in hand while it polls; what is claimed at this very moment goes back.
        if self._polling:
            self._consumer.close()

    def _claim(self) -> list[ConsumerRecord]:
        count = self._prefetch.count()
        return self._poll(POLL_MS, count)

    def _poll(self, wait_ms: float, count: int, *, prefetch: bool = True) -> list[ConsumerRecord]:
        if self._post.max_tasks is not None:
            count = max(1, min(count, self._left))
        began_ns = time.monotonic_ns()
        self._polling = True
        try:
            if self._post.draining:
                return []
            found = self._consumer.poll(wait_ms, max_records=count, prefetch=prefetch)
        except ClosedError:
            return []
        except CorruptRecordError:
            logger.exception("a record cannot be read, and is given up by the bus")
            return []
        finally:
            self._polling = False
            self._post.block.words[Word.WAIT_NS] += time.monotonic_ns() - began_ns
        return [record for records in found.values() for record in records]

    def _work_on(self, record: ConsumerRecord) -> None:
        task = self._settlement.admit(record, _SLOT)
        if task is None:
            return
        error = self._guarded(task, partial(self._handle, task.record))
        if error is None:
            self._prefetch.took(self._settlement.done(task))
        elif isinstance(error, TaskInterrupted):
            self._settlement.interrupted(task)
        else:
            self._settlement.failed(task, trouble_of(error), error)
        self._count()

    def _guarded(self, task: CurrentTask, call: Callable[[], Any]) -> BaseException | None:
        """What the handler raised, if anything: SystemExit in a handler ends no worker."""
        post = self._post
        enter(task)
        try:
            try:
                post.is_interruptible = True
                call()
                post.is_interruptible = False
            except BaseException as error:  # noqa: BLE001 - all of them are settled
                post.is_interruptible = False
                return error
        except (TaskTimeout, TaskInterrupted) as late:
            return late  # it came between the handler's own end and the line after it
        finally:
            enter(None)
        return None

    def _count(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self._post.worn(f"{self._post.max_tasks} tasks")
