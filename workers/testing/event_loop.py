"""An event loop that goes by a fake clock: when nothing is left to do but wait, it does not wait.

The clock jumps to the next timer instead, so `asyncio.sleep(3600)` is over at once, and always in
the same order. What waits for other threads (`asyncio.to_thread`) waits in real time, unless a
timer is due first: then the clock jumps, as if the thread had taken that long.
"""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from workers.testing.clock import FakeClock

T = TypeVar("T")


class _JumpingSelector(selectors.BaseSelector):
    """Looks at real descriptors, and lets the clock pass instead of waiting for them."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # only another thread can wake it
            return self._real.select()
        found = self._real.select(0)
        if not found and timeout > 0:
            self._clock.sleep(timeout)
        return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class FakeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the clock's."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self._clock.monotonic_ns / 1e9


class Inline(Executor):
    """Calls functions where they are submitted: a worker's thread for claims, without a thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future
