"""The future of a task of a durable executor: asking for its result fetches it."""

from typing import Any, Protocol, TypeVar

from workers.errors import DetachedError
from workers.remote import ToldException
from workers.task_future import Canceller, TaskFuture

T = TypeVar("T")


class Keeper(Canceller, Protocol):
    """Whoever keeps results until they are fetched."""

    def fetched(self, task: int) -> None:
        """The program has the result."""


class DurableFuture(TaskFuture[T]):
    """A TaskFuture whose `task` names it to every later program, too.

    Attribute: `is_chunk`: of a map() of a program that has ended: the result is a list.
    """

    _canceller: Keeper

    def __init__(self, task: int, keeper: Keeper) -> None:
        super().__init__(task, keeper)
        self.is_chunk = False

    def complete(self, value: T) -> None:
        """See TaskFuture; the results of a chunk, or what an item of it raised."""
        if not self.is_chunk:
            super().complete(value)
            return
        chunk: Any = value
        results, told = chunk
        if told is None:
            super().complete(results)
        else:
            self.set_exception(ToldException.from_bytes(told).exception())

    def result(self, timeout: float | None = None) -> T:
        """See TaskFuture."""
        try:
            return super().result(timeout)
        finally:
            self._note()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See Future."""
        try:
            return super().exception(timeout)
        finally:
            self._note()

    def _note(self) -> None:
        if self.done() and not self.cancelled() and not isinstance(self._exception, DetachedError):
            self._canceller.fetched(self.task)
