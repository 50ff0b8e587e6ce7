"""When a worker that died is started again, and when that is given up: decided without I/O.

A worker that has done something is started again at once. One that dies young is started again
after pauses that double. If one after the other ends and none gets anything done, no worker ever
will: the handler's module cannot be imported, `init` raises, the bus is gone.
"""

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
#: A life shorter than this is short, whatever it has done.
SHORT_LIFE_S: Final = 1.0
#: Deaths in a row without any progress of any worker, after which it is given up.
DEATHS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a life that ended unasked."""

    lasted_s: float
    was_ready: bool
    #: it had begun with a task, at least
    made_progress: bool


@dataclass(slots=True)
class Restarts:
    """The deaths of one set of workers, and what follows from them."""

    deaths_max: int = DEATHS_MAX
    fruitless: int = 0
    _short: int = 0

    def pause_s(self, life: Life) -> float:
        """Notes a death; how long to wait before the next life is started."""
        self.fruitless = 0 if life.made_progress else self.fruitless + 1
        self._short = self._short + 1 if life.lasted_s < SHORT_LIFE_S else 0
        if life.made_progress or not self._short:
            return 0.0
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._short - 1)))

    def progress(self) -> None:
        """A worker got something done: whatever ended the others, it is no crash loop."""
        self.fruitless = 0

    @property
    def hopeless(self) -> bool:
        """True if it is time to give up."""
        return self.fruitless >= self.deaths_max
