"""What a stage's workers call for each record: the user's function, around it reading and sending.

    function(value)            a value, or None for nothing, or a generator of as many as it likes
    function(value, state)     with `init`

A generator's values are sent as they come, so they never need to be in memory together.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bus import ConsumerRecord
from bus.errors import BackpressureError, LockTimeoutError
from workers.current_task import CurrentTask, current
from workers.handler import is_async
from workers.pipeline.coordinates import ORDER, Header, Place, child_order, root_order, value_of
from workers.pipeline.outlet import SLICE_MS, Drain, Outlet
from workers.pipeline.patience import Patience
from workers.pipeline.values import Format, reader_of

#: An async handler's worker looks so often whether there is room, in seconds.
PAUSE_S: Final = 0.01
_NOTHING: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A stage's work, as it travels to its workers.

    `inputs`: topic -> format of its values. `roots`: topics of sources, whose offsets are the order
    of the results; None if they have no order.
    """

    function: Callable[..., Any]
    init: Callable[[], Any] | None
    exit: Callable[..., Any] | None
    inputs: Mapping[str, Format | None]
    drain: Drain
    roots: frozenset[str] | None


class Bench:
    """What one worker has: its outlet, and the state of the user's `init`."""

    def __init__(self, plan: Plan, slice_ms: int) -> None:
        self.outlet = Outlet(plan.drain, slice_ms)
        self.read = {topic: reader_of(format) for topic, format in plan.inputs.items()}
        self._roots = plan.roots
        try:
            self.state = plan.init() if plan.init else None
        except BaseException:
            self.outlet.close()
            raise
        self.call = plan.function if plan.init is None else partial(_with_state, plan, self)

    def order_of(self, record: ConsumerRecord) -> bytes | None:
        """The order of a record's outputs; None if nobody asks for one."""
        if self._roots is None:
            return None
        if record.topic in self._roots:
            return root_order(record.offset)
        return value_of(record.headers, ORDER)


def _with_state(plan: Plan, bench: Bench, value: Any) -> Any:
    return plan.function(value, bench.state)


class Sending:
    """The outputs for one record, one after the other."""

    def __init__(
        self,
        bench: Bench,
        record: ConsumerRecord,
        task: CurrentTask,
        sent: Set[int] = _NOTHING,
    ) -> None:
        """`sent`: numbers of those that are in the topic already."""
        self._outlet = bench.outlet
        self._key = record.key
        self._place = Place(record.topic, record.partition, record.offset)
        self._order = bench.order_of(record)
        self._sent = sent
        self._patience = Patience(task)
        self._n = 0

    def _headers(self, n: int) -> list[Header]:
        headers: list[Header] = [self._outlet.header(self._place, n)]
        if self._order is not None:
            headers.append((ORDER, child_order(self._order, n)))
        return headers

    def try_send(self, output: Any) -> bool:
        """Sends the next output, unless an attempt before has; False if there is no room now."""
        if self._n not in self._sent:
            try:
                self._outlet.offer(output, self._key, self._headers(self._n))
            except (BackpressureError, LockTimeoutError) as error:
                self._patience.held_up(str(error))
                return False
        self._patience.let_go()
        self._n += 1
        return True

    def send(self, output: Any) -> None:
        """Waits for room, for as long as it takes; an interrupt ends it."""
        while not self.try_send(output):
            continue


def _begun(bench: Bench, record: ConsumerRecord) -> Sending:
    task = current()
    sent = bench.outlet.sent_for(record) if task.attempt > 1 else _NOTHING
    return Sending(bench, record, task, sent)


class StageWork:
    """The handler of a stage's pool, with its init and exit."""

    slice_ms = SLICE_MS

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def open(self) -> Bench:
        """Called once in each worker."""
        return Bench(self.plan, self.slice_ms)

    def close(self, bench: Bench) -> None:
        """Called at the end of a worker."""
        try:
            _leave(self.plan, bench.state)
        finally:
            bench.outlet.close()

    def __call__(self, record: ConsumerRecord, bench: Bench) -> None:
        """Works on one record."""
        sending = _begun(bench, record)
        made = bench.call(bench.read[record.topic](record))
        if isinstance(made, Iterator):
            for output in made:
                sending.send(output)
        elif made is not None:
            sending.send(made)


class AsyncStageWork(StageWork):
    """The same for a coroutine function or an async generator."""

    slice_ms = 1  # the other tasks of the event loop wait meanwhile

    async def __call__(  # type: ignore[override]
        self, record: ConsumerRecord, bench: Bench
    ) -> None:
        """Works on one record."""
        sending = _begun(bench, record)
        made = bench.call(bench.read[record.topic](record))
        if isinstance(made, Awaitable):
            made = await made
        if isinstance(made, AsyncIterator):
            async for output in made:
                await _send(sending, output)
        elif isinstance(made, Iterator):
            for output in made:
                await _send(sending, output)
        elif made is not None:
            await _send(sending, made)


async def _send(sending: Sending, output: Any) -> None:
    while not sending.try_send(output):
        await asyncio.sleep(PAUSE_S)


def _leave(plan: Plan, state: Any) -> None:
    if plan.exit is not None:
        plan.exit() if plan.init is None else plan.exit(state)


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """True for what gives a coroutine or an async generator."""
    while isinstance(function, partial):
        function = function.func
    return is_async(function) or inspect.isasyncgenfunction(function)
