"""When a worker is to be replaced by a fresh one: decided without I/O.

The limit on tasks is drawn for each worker from the last tenth below it, so that workers that
were started together do not all retire together.
"""

import random
from dataclasses import dataclass
from typing import Final

from workers.errors import RecyclingError

JITTER: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycling:
    """Limits on the life of a worker; None means none.

    `max_tasks`: tasks finished. `max_rss_bytes`: resident memory, looked at from outside a few
    times a second. `max_age_s`: seconds since it was ready.
    """

    max_tasks: int | None = None
    max_rss_bytes: int | None = None
    max_age_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_tasks", "max_rss_bytes", "max_age_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise RecyclingError(f"{name} must be above 0, not {value!r}; None means no limit")

    def drawn(self, draw: random.Random) -> "Recycling":
        """The limits of one worker, with its own number of tasks."""
        if self.max_tasks is None:
            return self
        lowest = max(1, round(self.max_tasks * (1 - JITTER)))
        tasks = draw.randint(lowest, self.max_tasks)
        return Recycling(
            max_tasks=tasks, max_rss_bytes=self.max_rss_bytes, max_age_s=self.max_age_s
        )

    def reason(self, *, tasks: int, rss_bytes: int, age_s: float) -> str:
        """Why a worker is to be replaced now, in words; "" if it is not."""
        if self.max_tasks is not None and tasks >= self.max_tasks:
            return f"{tasks} tasks"
        if self.max_rss_bytes is not None and rss_bytes > self.max_rss_bytes:
            return f"{rss_bytes} bytes of memory"
        if self.max_age_s is not None and age_s >= self.max_age_s:
            return f"{age_s:.0f} s of age"
        return ""
