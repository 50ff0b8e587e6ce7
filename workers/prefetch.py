"""How many records a worker claims at once: decided without I/O.

One, if tasks take more than a millisecond: what is claimed ahead waits for the task before it.
More for short ones, about a millisecond's worth, so that claiming costs little of their time.
"""

from typing import Final

TARGET_NS: Final = 1_000_000
CLAIM_MAX: Final = 256
#: The weight of the newest task in the mean; a slow one counts at once.
_WEIGHT: Final = 0.125


class Prefetch:
    """The mean duration of a worker's tasks, and what follows from it."""

    def __init__(self, most: int = CLAIM_MAX) -> None:
        self._most = most
        self._mean_ns = float(TARGET_NS)
        self._last = 1

    def took(self, ns: float, count: int = 1) -> None:
        """Notes the duration of a task, or the mean one of `count` tasks."""
        if ns > self._mean_ns:
            self._mean_ns = ns
        else:
            self._mean_ns += (1 - (1 - _WEIGHT) ** count) * (ns - self._mean_ns)

    def count(self) -> int:
        """How many to claim now: at most twice as many as the last time."""
        wanted = int(TARGET_NS / max(self._mean_ns, 1.0))
        self._last = max(1, min(wanted, 2 * self._last, self._most))
        return self._last
