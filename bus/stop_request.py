"""SIGTERM as a replica takes it: remembered, and the end of the main thread's sleep."""

from collections.abc import Callable
from contextlib import suppress


class StopRequested(Exception):
    """Raised out of a sleep by SIGTERM; never raised anywhere else."""


class Stop:
    """Remembers that SIGTERM came, and ends the main thread's sleep at once."""

    def __init__(self) -> None:
        self.requested = False
        self._sleeping = False

    def on_signal(self, _number: int, _frame: object) -> None:
        self.requested = True
        if self._sleeping:
            self._sleeping = False
            raise StopRequested

    def sleep(self, wait: Callable[[], bool]) -> bool:
        """Waits in the main thread, as long as no signal comes; what `wait` returned, or False."""
        with suppress(StopRequested):
            self._sleeping = True
            # A signal before that store is seen here, one after it raises.
            found = not self.requested and wait()
            self._sleeping = False
            return found
        return False
