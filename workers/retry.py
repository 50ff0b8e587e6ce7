"""How often and when a record is tried again: decided without I/O.

Each kind of trouble has a limit of its own, for they mean different things: a handler that raises
may do better in a minute; a record that killed two processes will kill the third. A task that is
interrupted because its worker ends is not counted at all.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from workers.errors import RetryError, TaskTimeout

#: 2 to this power times any pause is longer than the longest one.
_DOUBLINGS_MAX: Final = 60


class Trouble(Enum):
    """What went wrong with a task."""

    FAILURE = "failure"
    TIMEOUT = "timeout"
    CRASH = "crash"
    OOM = "oom"


def trouble_of(error: BaseException) -> Trouble:
    """What kind of trouble an exception of a handler is."""
    if isinstance(error, TaskTimeout):
        return Trouble.TIMEOUT
    return Trouble.OOM if isinstance(error, MemoryError) else Trouble.FAILURE


@dataclass(frozen=True, slots=True)
class Counts:
    """How often a record has met each kind of trouble."""

    failure: int = 0
    timeout: int = 0
    crash: int = 0
    oom: int = 0

    def of(self, trouble: Trouble) -> int:
        """The count of one kind."""
        return int(getattr(self, trouble.value))

    def plus(self, trouble: Trouble) -> "Counts":
        """One more of a kind."""
        counts = {kind.value: self.of(kind) + (kind is trouble) for kind in Trouble}
        return Counts(**counts)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The record is not tried again, and why."""

    reason: str

    def __str__(self) -> str:
        return f"given up: {self.reason}"


@dataclass(frozen=True, slots=True)
class Again:
    """The record is tried again after so long."""

    delay_s: float

    def __str__(self) -> str:
        return f"again in {self.delay_s:.3f} s"


Decision = GiveUp | Again


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Limits and pauses.

    failure, timeout, crash, oom: a record is given up at its n-th of a kind; the handler raised,
        ran too long, its process died, was out of memory.
    first_delay_s, longest_delay_s: the pause doubles from the first one to the longest one.
    jitter: a pause is made longer by up to this part of it, so that what failed together does not
        come back together.
    retry_on: only exceptions of these types are tried again; give_up_on: those never, also if
        they are of a type in retry_on.
    delay: called with the count of failures and the exception, returns the pause in seconds; then
        the pauses above do not count.

    Raises RetryError for values that make no sense.
    """

    failure: int = 5
    timeout: int = 2
    crash: int = 2
    oom: int = 2
    first_delay_s: float = 0.1
    longest_delay_s: float = 600.0
    jitter: float = 0.25
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    delay: Callable[[int, BaseException], float] | None = field(default=None)

    def __post_init__(self) -> None:
        for kind in Trouble:
            limit = getattr(self, kind.value)
            if not 1 <= limit <= 255:
                raise RetryError(
                    f"{kind.value} must be from 1 to 255, not {limit!r}; 1 gives up at the first"
                )
        if not 0 <= self.first_delay_s <= self.longest_delay_s:
            raise RetryError("0 <= first_delay_s <= longest_delay_s does not hold")
        if not 0 <= self.jitter <= 1:
            raise RetryError(f"jitter must be from 0 to 1, not {self.jitter!r}")

    def after(
        self,
        trouble: Trouble,
        counts: Counts,
        error: BaseException | None,
        draw: random.Random,
    ) -> Decision:
        """What becomes of a record that has just met trouble; `counts` are with this one."""
        if trouble is Trouble.FAILURE and error is not None and not self._accepts(error):
            return GiveUp(f"{type(error).__name__} is not tried again")
        found = self.spent(counts)
        if found is not None:
            return found
        if self.delay is not None and error is not None:
            return Again(max(0.0, self.delay(counts.of(trouble), error)))
        doublings = min(counts.of(trouble) - 1, _DOUBLINGS_MAX)
        pause_s = min(self.longest_delay_s, self.first_delay_s * 2**doublings)
        return Again(pause_s * (1 + self.jitter * draw.random()))

    def spent(self, counts: Counts) -> GiveUp | None:
        """Why a record with these counts is not to be tried (again); None if it is."""
        for kind in Trouble:
            count, limit = counts.of(kind), getattr(self, kind.value)
            if count >= limit:
                return GiveUp(f"{kind.value} {count} of {limit}")
        return None

    def _accepts(self, error: BaseException) -> bool:
        return isinstance(error, self.retry_on) and not isinstance(error, self.give_up_on)
