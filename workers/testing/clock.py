"""A clock that stands still until it is moved: what handlers, retries and timeouts go by in tests.

While it is installed, `time.time`, `time.monotonic`, `time.sleep` and their kin answer with it, in
the thread that installed it alone: other threads, as those of a test runner, keep the real time.
Assumes that code asks `time.sleep(…)`, not a name that it imported (`from time import sleep`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_NS: Final = 1_000_000_000
#: 2026-01-01 00:00 UTC: what the wall clock says first, the same in each run of a test.
STARTS_AT_S: Final = 1_767_225_600
#: The monotonic clock begins here: above 0, which stands for "never" in a worker's block.
_MONOTONIC_START_NS: Final = 1000 * _NS


class FakeClock:
    """Time in ns since its start. `on_move` is called with the monotonic time that is to be."""

    def __init__(self) -> None:
        self._ns = 0
        #: may end the move by raising, at a time that it has jumped to
        self.on_move: Callable[[int], None] = _nothing

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return self._ns / _NS

    @property
    def monotonic_ns(self) -> int:
        """What time.monotonic_ns() says."""
        return _MONOTONIC_START_NS + self._ns

    @property
    def wall_ns(self) -> int:
        """What time.time_ns() says."""
        return STARTS_AT_S * _NS + self._ns

    def move_to(self, monotonic_ns: int) -> None:
        """Moves it on to that time; never back."""
        self.on_move(monotonic_ns)
        self.jump(monotonic_ns)

    def jump(self, monotonic_ns: int) -> None:
        """The same, and nobody is told."""
        self._ns = max(self._ns, monotonic_ns - _MONOTONIC_START_NS)

    def sleep(self, seconds: float) -> None:
        """Moves it on, as time.sleep does while it is installed."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self.move_to(self.monotonic_ns + round(seconds * _NS))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within it, `time` is this clock's for the thread that entered."""
        fakes: dict[str, Callable[..., Any]] = {
            "time": lambda: self.wall_ns / _NS,
            "time_ns": lambda: self.wall_ns,
            "monotonic": lambda: self.monotonic_ns / _NS,
            "monotonic_ns": lambda: self.monotonic_ns,
            "perf_counter": lambda: self.monotonic_ns / _NS,
            "perf_counter_ns": lambda: self.monotonic_ns,
            "sleep": self.sleep,
        }
        thread = threading.get_ident()
        real = {name: getattr(time, name) for name in fakes}
        try:
            for name, fake in fakes.items():
                setattr(time, name, _for_thread(thread, fake, real[name]))
            yield
        finally:
            for name, function in real.items():
                setattr(time, name, function)


def _for_thread(
    thread: int, fake: Callable[..., Any], real: Callable[..., Any]
) -> Callable[..., Any]:
    def either(*arguments: Any) -> Any:
        return fake(*arguments) if threading.get_ident() == thread else real(*arguments)

    return either


def _nothing(monotonic_ns: int) -> None:
    """Nobody minds."""
