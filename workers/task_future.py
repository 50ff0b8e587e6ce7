"""The future of a task of an Executor."""

from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Canceller(Protocol):
    """Whoever knows where the tasks are."""

    def withdraw(self, future: "TaskFuture[Any]") -> bool:
        """True if no worker has begun with the task, and none will."""

    def has_begun(self, task: int) -> bool:
        """True if a worker has begun with the task."""


class TaskFuture(Future[T]):
    """A concurrent.futures.Future that can be cancelled until a worker begins with its task.

    Attribute: `task` (a number, in the order of submission).
    """

    def __init__(self, task: int, canceller: Canceller) -> None:
        super().__init__()
        self.task = task
        self._canceller = canceller

    def cancel(self) -> bool:
        """Cancels the task unless a worker has begun with it. True if it is cancelled."""
        if self.done():
            return self.cancelled()
        return self._canceller.withdraw(self) or self.cancelled()

    def cancel_withdrawn(self) -> bool:
        """The task was withdrawn: says so to all who wait."""
        if not super().cancel():
            return False
        if self._state == "CANCELLED":  # and not yet told by another thread
            self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """True while a worker works on the task."""
        return not self.done() and self._canceller.has_begun(self.task)
