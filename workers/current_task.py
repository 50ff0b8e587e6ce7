"""The task that a handler is working on: `workers.current()` in the handler, sync or async."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from bus import ConsumerRecord
from bus.errors import IllegalStateError
from workers.post import Post
from workers.retry import Counts


@dataclass(slots=True)
class CurrentTask:
    """One attempt at a record.

    Attributes: `record`, `attempt` (1 for the first time that it is worked on), `counts` (what
    went wrong before), `uid` (topic, partition and offset: the same at each attempt, for effects
    outside of the bus that are to happen once), `slot` (its place in the worker's block).
    """

    record: ConsumerRecord
    attempt: int
    counts: Counts
    _post: Post = field(repr=False)
    slot: int = field(repr=False)
    _deadline_ns: int = field(repr=False, default=0)
    #: told of an extension in seconds: the event loop keeps a timer of its own
    on_extend: Callable[[float], None] | None = field(repr=False, default=None)

    @property
    def uid(self) -> str:
        record = self.record
        return f"{record.topic}:{record.partition}:{record.offset}"

    @property
    def draining(self) -> bool:
        """True if the worker is to end: a long task may stop at a good place, and raise."""
        return self._post.draining

    @property
    def remaining_s(self) -> float | None:
        """Time until the handler's timeout; None if there is none."""
        if not self._deadline_ns:
            return None
        return (self._deadline_ns - time.monotonic_ns()) / 1e9

    def extend(self, seconds: float) -> None:
        """The handler's timeout is so long from now."""
        self._deadline_ns = time.monotonic_ns() + int(seconds * 1e9)
        self._post.block.extend(self.slot, self._deadline_ns)
        if self.on_extend is not None:
            self.on_extend(seconds)

    def tell(self, data: bytes) -> None:
        """Sends up to 16 KiB to the observer of the pool."""
        self._post.tell(data)

    @property
    def deadline_ns(self) -> int:
        """When the time is over (monotonic ns); 0: never."""
        return self._deadline_ns


_current: ContextVar[CurrentTask | None] = ContextVar("workers.current", default=None)


def current() -> CurrentTask:
    """The task of the handler that calls this. Raises IllegalStateError outside of a handler."""
    task = _current.get()
    if task is None:
        raise IllegalStateError("workers.current() is for handlers of a pool alone")
    return task


def current_or_none() -> CurrentTask | None:
    """The same; None outside of a handler."""
    return _current.get()


def enter(task: CurrentTask | None) -> None:
    """The handler that is called next in this context works on `task`.

    None after it: a record that is held keeps its segment, and its consumer's place on the bus.
    """
    _current.set(task)
