"""How long a group's member waits for the group's mutex, which a stopped process may hold.

A program that joins, leaves or commits waits: it asked for that. A member that reads looks after
its group in passing only, and reads on: what it owns nobody can take away without the mutex.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bus.errors import LockTimeoutError

logger = logging.getLogger(__name__)

#: a member that reads waits so long for the mutex, in ms (normally it is free within 1 ms)
PASSING_MS: Final = 20.0
#: and, if that was not enough, reads on for so long before it tries again, in seconds
HELD_UP_S: Final = 0.5


class Patience:
    """One member's patience. `wait_ms` is None while it may wait as long as its tables do."""

    def __init__(self) -> None:
        self.wait_ms: float | None = None
        self._until_s = 0.0

    @property
    def is_held_up(self) -> bool:
        """True for a moment after `passing` met a mutex that a stopped process holds."""
        return time.monotonic() < self._until_s

    @contextmanager
    def passing(self) -> Iterator[None]:
        """For what a member does while it reads; if the mutex is not free soon, it `is_held_up`."""
        before, self.wait_ms = self.wait_ms, PASSING_MS
        try:
            yield
        except LockTimeoutError as error:
            logger.debug("%s; reading goes on", error)  # counted and logged by the members table
            self._until_s = time.monotonic() + HELD_UP_S
        finally:
            self.wait_ms = before
