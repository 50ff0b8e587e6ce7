"""What the workers of a pool are told to do; it travels to each of them."""

import os
import random
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import bus
from workers.attempts import Recorder
from workers.dead_letters import DeadLetters
from workers.errors import PoolOptionError
from workers.flight_recorder import FlightRecorder
from workers.gate import Gate
from workers.handler import Handler
from workers.layout import SLOTS_MAX
from workers.limits import Limit
from workers.logs import LogFormat
from workers.post import Post
from workers.retry import Retry

#: in which order records are worked on, see bus.ShareConsumer
Mode = Literal["queue", "keyed"]
MODES: Final[tuple[Mode, ...]] = ("queue", "keyed")


class Batching(NamedTuple):
    """How many records a handler gets at once, as a list; with 0 one, by itself.

    wait_ms: a batch is not waited for longer than that behind its first record.
    """

    most: int = 0
    wait_ms: float = 0.0


#: No batches.
ONE_BY_ONE: Final = Batching()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A pool's work. `address` is the bus; `timeout_s` is a handler's time, None without limit.

    A topic's place in `topics` is its number on the board.
    """

    address: str | None
    topics: tuple[str, ...]
    group: str
    handler: Handler
    retry: Retry
    dead_letter: bool
    timeout_s: float | None
    concurrency: int
    log_level: int | None
    limits: tuple[Limit, ...] = ()
    batching: Batching = ONE_BY_ONE
    log_format: LogFormat = "text"
    #: whether attempts are recorded
    flight: bool = False
    mode: Mode = "queue"

    def gate(self) -> Gate | None:
        """What keeps the limits, for one process; None if there are none. Raises LimitError."""
        if not self.limits:
            return None
        address = os.path.realpath(self.address) if self.address else ""
        own = f"{address}\n{self.group}\n"
        names = [limit.name or f"{own}{number}" for number, limit in enumerate(self.limits)]
        return Gate(self.limits, names)

    def __post_init__(self) -> None:
        """Raises PoolOptionError for what cannot be."""
        count, wait_ms = self.batching
        if not 0 <= count <= SLOTS_MAX or wait_ms < 0:
            raise PoolOptionError(
                f"batch must be from 1 to {SLOTS_MAX}, not {count!r}, and batch_ms 0 or more"
            )
        if count and self.handler.is_async:
            raise PoolOptionError("batch needs a handler that is a function, not an async def")
        concurrency, timeout_s = self.concurrency, self.timeout_s
        if self.mode not in MODES:
            raise PoolOptionError(f"mode must be one of {list(MODES)}, not {self.mode!r}")
        if not 1 <= concurrency <= SLOTS_MAX:
            raise PoolOptionError(f"concurrency must be from 1 to {SLOTS_MAX}, not {concurrency!r}")
        if concurrency > 1 and not self.handler.is_async:
            raise PoolOptionError(
                "concurrency above 1 needs a handler that is an async def; use more processes"
                " instead"
            )
        if timeout_s is not None and timeout_s <= 0:
            raise PoolOptionError(
                f"timeout_s must be above 0, not {timeout_s!r}; None means no limit"
            )

    def join(self, number: int) -> bus.ShareConsumer:
        """A member of the group for the worker with this number."""
        return bus.ShareConsumer(
            *self.topics,
            bootstrap_servers=self.address,
            group_id=self.group,
            mode=self.mode,
            client_id=f"worker-{number}",
        )

    def letters(self) -> dict[str, DeadLetters]:
        """What writes each topic's dead letters; empty if what is given up is only logged."""
        if not self.dead_letter:
            return {}
        return {topic: DeadLetters(self.address, topic, self.group) for topic in self.topics}

    def recorder(self, post: Post) -> Recorder | None:
        """What is told of each attempt; None if nothing is."""
        if not self.flight:
            return None
        return FlightRecorder(post, self.topics, is_async=self.handler.is_async)

    def draw(self) -> random.Random:
        """What the jitter of pauses is drawn from."""
        return random.Random()

    @property
    def tasks_at_once(self) -> int:
        """Records that one worker has in hand at most."""
        return max(self.concurrency, self.batching.most)

    @property
    def timeout_ns(self) -> int:
        """The handler's time in ns; 0: as long as it likes."""
        return 0 if self.timeout_s is None else int(self.timeout_s * 1e9)
