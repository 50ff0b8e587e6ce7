"""One record, worked on in this process: `workers.replay_here(handle, "orders", 0, 42)`.

Nothing is acknowledged, and nothing is written to the bus but by the handler itself. There is no
timeout and no retry: what the handler raises comes out of the call, so that a debugger sees it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import bus
from workers.current_task import CurrentTask, enter
from workers.errors import ReplayError
from workers.handler import Handler
from workers.lone_post import lone_post, private_board
from workers.ranges import Span, records_in
from workers.retry import Counts


def replay_here(
    handler: Callable[..., Any],
    topic: str,
    partition: int,
    offset: int,
    *,
    init: Callable[[], Any] | None = None,
    exit: Callable[..., Any] | None = None,
    bootstrap_servers: str | None = None,
    call: Callable[..., Any] | None = None,
) -> Any:
    """Calls a pool's handler with a record that was sent once, here; returns what it returns.

    init, exit: as the pool has them. call: called as call(handler, record) instead of the handler
    itself, as pdb.runcall is. Raises ReplayError if the record is not in the log any more.
    """
    called = Handler(handler, init, exit)
    where = bus.TopicPartition(topic, partition)
    with bus.Consumer(bootstrap_servers=bootstrap_servers, client_id="replay") as consumer:
        ends = consumer.end_offsets([where])
        span = Span(where, offset, min(offset + 1, ends[where]))
        firsts = consumer.beginning_offsets([where])
        found = [] if offset < firsts[where] else list(records_in(consumer, span))
        if not found:
            raise ReplayError(
                f"there is no record {topic}:{partition}:{offset}; the log has {firsts[where]} up"
                f" to {ends[where] - 1}"
            )
        return _called(called, found[0], call)


def _called(handler: Handler, record: Any, call: Callable[..., Any] | None) -> Any:
    board = private_board([record.topic], "replay")
    task = CurrentTask(record, 1, Counts(), lone_post(board), 0)
    if handler.is_async:
        return asyncio.run(_called_async(handler, record, task, call))
    state = handler.init() if handler.init else None
    enter(task)
    try:
        function = handler.bound(state)
        return function(record) if call is None else call(function, record)
    finally:
        enter(None)
        handler.leave(state)


async def _called_async(
    handler: Handler, record: Any, task: CurrentTask, call: Callable[..., Any] | None
) -> Any:
    state = await _value(handler.init()) if handler.init else None
    enter(task)
    try:
        function = handler.bound(state)
        return await _value(function(record) if call is None else call(function, record))
    finally:
        enter(None)
        await _value(handler.leave(state))


async def _value(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value
