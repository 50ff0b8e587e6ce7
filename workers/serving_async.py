"""A worker with an async handler: up to `concurrency` records at once in one event loop.

Records are claimed in a thread, one claim for all that are free to be worked on, so the loop never
waits for the bus. A record whose holder died is worked on alone: if it kills this process too, no
other task is counted down with it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

import bus
from bus import ConsumerRecord
from bus.errors import CorruptRecordError
from workers.current_task import CurrentTask, enter
from workers.errors import TaskTimeout
from workers.layout import Word
from workers.order import Order
from workers.post import Post
from workers.retry import trouble_of
from workers.settlement import Settlement, logger

#: A claim waits for so long: a drain begins after it at the latest.
POLL_MS: Final = 100.0


def serve_async(post: Post, order: Order) -> None:
    """The life of a worker with an async handler."""
    asyncio.run(_serve(post, order))


async def _serve(post: Post, order: Order) -> None:
    began_ns = time.monotonic_ns()
    state = await _called(order.handler.init) if order.handler.init else None
    init_ns = time.monotonic_ns() - began_ns
    try:
        with order.join(post.number) as consumer, ThreadPoolExecutor(1) as thread:
            await Serving(post, order, consumer, state, thread).run(init_ns)
    finally:
        left = order.handler.leave(state)
        if isinstance(left, Awaitable):
            await left


async def _called(function: Callable[[], Any]) -> Any:
    value = function()
    return await value if isinstance(value, Awaitable) else value


class Serving:
    """As its namesake of functions. Attribute: `running`, the tasks in hand."""

    def __init__(
        self,
        post: Post,
        order: Order,
        consumer: bus.ShareConsumer,
        state: Any,
        thread: Executor,
    ) -> None:
        self._post = post
        self._consumer = consumer
        self._thread = thread
        self._handle = order.handler.bound(state)
        self._settlement = Settlement(post, order, consumer)
        self._free = list(range(order.concurrency - 1, -1, -1))
        self.running: set[asyncio.Task[None]] = set()
        self._left = post.max_tasks or 0
        self._loop = asyncio.get_running_loop()

    async def run(self, init_ns: int) -> None:
        """Until the drain, and the end of what is in hand."""
        post = self._post
        post.on_interrupt = self._on_interrupt
        post.ready(init_ns)
        try:
            while not post.draining:
                await self.step()
            await self._all_ended()
        finally:
            self._settlement.close()

    async def step(self) -> None:
        """Claims once, waiting for a while if there is nothing, and begins with what it got."""
        for record in await self._claim():
            await self._begin(record)

    def _on_interrupt(self) -> None:
        self._loop.call_soon_threadsafe(self._interrupt)  # which also wakes it

    def _interrupt(self) -> None:
        if self._post.draining:
            for task in self.running:
                task.cancel()

    async def _claim(self) -> list[ConsumerRecord]:
        while not self._free:
            await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)
        if self._post.draining:
            return []
        count = len(self._free)
        if self._post.max_tasks is not None:
            count = max(1, min(count, self._left))
        began_ns = time.monotonic_ns()
        try:
            found = await self._loop.run_in_executor(
                self._thread, lambda: self._consumer.poll(POLL_MS, count, prefetch=True)
            )
        except CorruptRecordError:
            logger.exception("a record cannot be read, and is given up by the bus")
            return []
        if not self.running:
            self._post.block.words[Word.WAIT_NS] += time.monotonic_ns() - began_ns
        return [record for records in found.values() for record in records]

    async def _begin(self, record: ConsumerRecord) -> None:
        """Starts a task; what is left when the worker drains goes back as it leaves the group."""
        alone = self._settlement.was_in_a_crash(record)
        if alone:
            await self._all_ended()
        if self._post.draining:
            return
        slot = self._free.pop()
        # admitting may write a dead letter, which takes a while
        task = self._settlement.admit(record, slot)
        if task is None:
            self._free.append(slot)
            return
        running = self._loop.create_task(self._work_on(task))
        self.running.add(running)
        running.add_done_callback(self.running.discard)
        if alone:
            await self._all_ended()

    async def _all_ended(self) -> None:
        while self.running:
            await asyncio.wait(self.running)

    async def _work_on(self, task: CurrentTask) -> None:
        enter(task)
        try:
            await self._within_its_time(task)
            self._settlement.done(task)
        except BaseException as error:  # noqa: BLE001 - all of them are settled
            if isinstance(error, asyncio.CancelledError) and self._post.draining:
                self._settlement.interrupted(task)
                return
            self._settlement.failed(task, trouble_of(error), error)
        finally:
            self._free.append(task.slot)
            self._count()

    async def _within_its_time(self, task: CurrentTask) -> None:
        if not task.deadline_ns:
            await self._handle(task.record)
            return
        try:
            async with asyncio.timeout(task.remaining_s) as limit:
                task.on_extend = lambda seconds: limit.reschedule(self._loop.time() + seconds)
                await self._handle(task.record)
        except TimeoutError as error:
            if limit.expired():
                raise TaskTimeout("the handler has run for longer than its timeout") from error
            raise

    def _count(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self._post.worn(f"{self._post.max_tasks} tasks")
