"""A worker whose handler takes several records at once: a list of them.

    claim up to `batch` ─► handler([record, …]) ─► done: all are acknowledged
                                 └─► failed: each one by itself, at once ─► done, again or given up

A record that was given out before comes alone: one that made a batch fail, or its worker die, is
found that way, and costs its neighbours one attempt. A batch is not waited for longer than
`batch_ms` after its first record.
"""

import time
from functools import partial
from typing import Any

import bus
from bus import ConsumerRecord
from bus.errors import IllegalStateError
from workers.current_task import CurrentTask
from workers.errors import TaskInterrupted, TaskPostponed
from workers.order import Order
from workers.post import Post
from workers.remote import message, type_name
from workers.retry import trouble_of
from workers.serving import POLL_MS, Serving
from workers.settlement import logger


def serve_batches(post: Post, order: Order) -> None:
    """The life of a worker with such a handler."""
    began_ns = time.monotonic_ns()
    state = order.handler.init() if order.handler.init else None
    init_ns = time.monotonic_ns() - began_ns
    try:
        with order.join(post.number) as consumer:
            BatchServing(post, order, consumer, state).run(init_ns)
    finally:
        order.handler.leave(state)


class BatchServing(Serving):
    """As Serving, for lists of records."""

    def __init__(self, post: Post, order: Order, consumer: bus.ShareConsumer, state: Any) -> None:
        super().__init__(post, order, consumer, state)
        self._most = order.batching.most
        self._wait_s = order.batching.wait_ms / 1e3
        self._timeout_s = order.timeout_s

    def step(self) -> None:
        """Collects a batch and works on it; what was tried before is worked on alone."""
        fresh: list[ConsumerRecord] = []
        until_s = 0.0
        while len(fresh) < self._most and not self._post.draining:
            wait_ms = (until_s - time.monotonic()) * 1e3 if fresh else POLL_MS
            if wait_ms <= 0:
                break
            found = self._poll(wait_ms, self._most - len(fresh))
            again = [record for record in found if self._was_tried(record)]
            if again:
                self._work_on_all_alone(fresh, again)
                fresh = []
            # begun now: an idle worker would take what waits for the rest of its batch
            new = [one for one in found if one not in again and self._consumer.start(one)]
            if new and not fresh:
                until_s = time.monotonic() + self._wait_s
            fresh += new
            if not fresh:
                return
        if fresh and not self._post.draining:
            self._work_together(fresh)

    def _work_on_all_alone(self, fresh: list[ConsumerRecord], again: list[ConsumerRecord]) -> None:
        """Nothing but the one at work is begun meanwhile: if it kills the worker, it dies alone."""
        if fresh:
            self._work_together(fresh)
        for record in again:
            if self._post.draining:
                return
            self._work_together([record])

    def _was_tried(self, record: ConsumerRecord) -> bool:
        try:
            return self._consumer.attempts(record).deliveries > 1
        except IllegalStateError:
            return False  # an idle worker took it and has done it: it cannot be started

    def _work_together(self, records: list[ConsumerRecord]) -> None:
        tasks = [
            task
            for slot, record in enumerate(records)
            if (task := self._settlement.admit(record, slot)) is not None
        ]
        if not tasks:
            return
        error = self._call_with(tasks)
        if error is None or len(tasks) == 1 or isinstance(error, TaskInterrupted):
            for task in tasks:
                self._settle(task, error)
            return
        logger.warning(
            "a batch of %d from %s on failed, and its records are tried one by one: %s: %s",
            *(len(tasks), tasks[0].uid, type_name(error), message(error)),
        )
        for task in tasks:
            self._post.block.extend(task.slot, 0)  # its time begins with its turn
        for task in tasks:
            self._try_alone(task)

    def _try_alone(self, task: CurrentTask) -> None:
        if self._post.draining:
            self._settle(task, TaskInterrupted("the worker is ending"))
            return
        if self._timeout_s is not None:
            task.extend(self._timeout_s)
        self._settle(task, self._call_with([task]))

    def _settle(self, task: CurrentTask, error: BaseException | None) -> None:
        if error is None:
            self._settlement.done(task)
        elif isinstance(error, TaskInterrupted):
            self._settlement.interrupted(task)
        elif isinstance(error, TaskPostponed):
            self._settlement.postponed(task, error.delay_ms)
        else:
            self._settlement.failed(task, trouble_of(error), error)
        self._count()

    def _call_with(self, tasks: list[CurrentTask]) -> BaseException | None:
        records = [task.record for task in tasks]
        return self._guarded(tasks[0], partial(self._handle, records))
