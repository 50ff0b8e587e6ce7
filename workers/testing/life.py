"""One life of the runner's worker: the post and the serving loop of a pool, without a process."""

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, cast

import bus
from workers import serving, serving_async
from workers.block import Block, Task
from workers.board import Board
from workers.exits import Cause, Exit
from workers.lone_post import lone_post
from workers.order import Order
from workers.overtime import GRACE_S
from workers.post import SOFT
from workers.testing.attempts import Attempt, Attempts, ProcessDeath
from workers.testing.clock import FakeClock
from workers.testing.event_loop import FakeLoop, Inline
from workers.testing.queue import Queue
from workers.verdicts import Kind

#: From a handler's deadline until its process is killed, if it goes on.
KILL_AFTER_NS: Final = int(2 * GRACE_S * 1e9)
#: How often a handler of a dead worker is cancelled.
_CANCELS: Final = 3


@dataclass(eq=False)
class Life:
    """A worker from its start to its death or the end of the test."""

    order: Order
    queue: Queue
    clock: FakeClock
    board: Board
    listed: list[Attempt]

    def __post_init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        if self.order.handler.is_async:
            self.loop = FakeLoop(self.clock)
            self.loop.set_exception_handler(_but_for_deaths)
        self.post = lone_post(self.board)
        self.block: Block = self.post.block
        self.attempts = Attempts(self.clock, self.block, self.queue, self.listed)
        self._state: Any = None
        self._sync: serving.Serving | None = None
        self._async: serving_async.Serving | None = None

    # ------------------------------------------------------------------ its course

    def begin(self) -> None:
        """Calls `init`, and gets ready."""
        self.block.born(os.getpid())
        began_ns = self.clock.monotonic_ns
        init = self.order.handler.init
        self._state = None if init is None else self._value(init())
        self.post.ready(self.clock.monotonic_ns - began_ns)
        consumer = cast(bus.ShareConsumer, self.queue)
        if self.loop is None:
            self._sync = serving.Serving(self.post, self.order, consumer, self._state)
        else:
            self.loop.run_until_complete(self._begin_async(consumer))

    async def _begin_async(self, consumer: bus.ShareConsumer) -> None:
        self._async = serving_async.Serving(self.post, self.order, consumer, self._state, Inline())

    def work(self) -> None:
        """Until nothing is ready. Raises ProcessDeath."""
        if self.loop is None:
            assert self._sync is not None
            while self.queue.has_ready():
                self._sync.step()
        else:
            self.loop.run_until_complete(self._work_async())

    async def _work_async(self) -> None:
        served = self._async
        assert served is not None
        while self.attempts.death is None:
            if self.queue.has_ready():
                await served.step()
            elif served.running:
                await asyncio.wait(
                    served.running, timeout=self._until_due_s(), return_when="FIRST_COMPLETED"
                )
            else:
                return
        raise self.attempts.death

    def _until_due_s(self) -> float | None:
        due_ns = self.queue.next_due_ns()
        return None if due_ns is None else max(0, due_ns - self.clock.monotonic_ns) / 1e9

    def end(self) -> None:
        """Calls `exit`."""
        self._value(self.order.handler.leave(self._state))
        if self.loop is not None:
            self.loop.close()

    def _value(self, value: Any) -> Any:
        if self.loop is None or not isinstance(value, Awaitable):
            return value
        return self.loop.run_until_complete(_awaited(value))

    # ------------------------------------------------------------------ its end by force

    def abandon(self) -> None:
        """Ends what still runs of a dead worker: handlers are cancelled, and nothing is settled.

        One that goes on nevertheless is left where it waits.
        """
        if self.loop is None:
            return
        for _ in range(_CANCELS):
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left, timeout=0))
        self.loop.close()

    def on_move(self, target_ns: int) -> None:
        """The clock is about to move: interrupts, or kills, for a task whose time is over then."""
        for task in self.block.tasks():
            if not task.deadline_ns:
                continue
            if self.post.is_interruptible and target_ns >= task.deadline_ns:
                self.clock.jump(task.deadline_ns)
                self.post.on_soft(SOFT, None)
            if target_ns >= task.deadline_ns + KILL_AFTER_NS:
                self.clock.jump(task.deadline_ns + KILL_AFTER_NS)
                self._kill(task)

    def _kill(self, late: Task) -> None:
        if self.attempts.death is None:
            exit = Exit(os.getpid(), Cause.SIGNAL, signal=9)
            death = ProcessDeath(exit, Kind.TIMEOUT, late)
            self.attempts.die(death)
            raise death


def _but_for_deaths(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What is left of a dead process is nobody's to ask for."""
    if "destroyed" in context["message"] or isinstance(context.get("exception"), ProcessDeath):
        return
    loop.default_exception_handler(context)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
