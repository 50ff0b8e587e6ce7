"""The future of a task of an Executor.

A Future of concurrent.futures has a lock, a condition and two lists, which cost more to make than
a small task to run. Here they are made when somebody first asks for them: who waits, who adds a
callback, who cancels. A future that is done before that never has any.

**Completed and asked for at once.** Both are done under one lock of all futures: either the
condition is there before the result, which is then told in Future's own way, or the result is
there before the condition, and whoever made it looks at the state next.
"""

import threading
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, PENDING
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

_RUNNING: Final = (PENDING, "RUNNING")
#: What Future's methods use under the condition's lock.
_MADE_LATE: Final = ("_condition", "_waiters", "_done_callbacks")
#: Collecting garbage while it is held may ask for another future's condition.
_making = threading.RLock()


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

    _state = PENDING
    _result: T | None = None
    _exception: BaseException | None = None
    _is_asked_for = False

    def __init__(self, task: int, canceller: Canceller) -> None:
        # not Future's own: see above
        self.task = task
        self._canceller = canceller

    def __getattr__(self, name: str) -> Any:
        if name not in _MADE_LATE:
            raise AttributeError(f"a TaskFuture has no attribute {name!r}")
        condition = threading.Condition()
        with _making:
            if not self._is_asked_for:
                self._waiters = []
                self._done_callbacks: list[Any] = []
                self._condition = condition
                self._is_asked_for = True
        return self.__dict__[name]

    def done(self) -> bool:
        """True if there is a result, or an exception, or if the task was cancelled."""
        return self._state not in _RUNNING

    def result(self, timeout: float | None = None) -> T:
        """What the task returned; waits for it. Raises what the task raised, and TimeoutError."""
        if self._state == FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]
        return super().result(timeout)

    def complete(self, value: T) -> None:
        """The task returned this."""
        with _making:
            if not self._is_asked_for:
                self._result = value
                self._state = FINISHED
                return
        self.set_result(value)

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
