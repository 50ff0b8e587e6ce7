"""Every error of the workers package, as one shallow tree.

`WorkersError` is a `BusError`, so that a program needs one `except` for both packages.
"""

from concurrent.futures import BrokenExecutor
from typing import Any

from bus.errors import BusConfigurationError, BusError


class WorkersError(BusError):
    """The root of the errors of this package."""


class StartMethodError(WorkersError, BusConfigurationError):
    """Raised when workers cannot be started as asked: "fork" with threads about, and the like."""


class RecyclingError(WorkersError, BusConfigurationError):
    """Raised when a limit on a worker's life makes no sense."""


class PoolOptionError(WorkersError, BusConfigurationError):
    """Raised when an option of a pool has a value that it cannot have."""


class LimitError(WorkersError, BusConfigurationError):
    """Raised when a limit makes no sense, or its name is in use with other numbers."""


class ScheduleError(WorkersError, BusConfigurationError):
    """Raised when a task cannot be scheduled as asked, or a record is no scheduled task."""


class RetryError(WorkersError, BusConfigurationError):
    """Raised when a limit or a pause of Retry makes no sense."""


class HandlerError(WorkersError, BusConfigurationError):
    """Raised when a handler cannot be found, or cannot be called as it is to be."""


class DeadLetterError(WorkersError):
    """Raised when a dead letter cannot be written, or lacks what it takes to send it again."""


class ReplayError(WorkersError):
    """Raised for records that cannot be replayed: they are gone, or others would see them again."""


class FlightRecordError(WorkersError):
    """Raised when there is no record of what became of a group's records."""


class BoardError(WorkersError):
    """Raised when the file in which workers are described cannot be made or read."""


class NotPicklableError(WorkersError, TypeError):
    """Raised when a handler, a task or a hook cannot travel to a worker process."""


class CrashLoopError(WorkersError, BrokenExecutor):
    """Raised when workers end over and over before any of them gets anything done.

    A BrokenExecutor for those who use an Executor as one of concurrent.futures.

    Attributes: `deaths` (how many in a row), `last` (how the last one ended, in words).
    """

    def __init__(self, message: str, *, deaths: int = 0, last: str = "") -> None:
        super().__init__(message)
        self.deaths = deaths
        self.last = last


class PipelineError(WorkersError, BusConfigurationError):
    """Raised when the parts of a pipeline do not fit together."""


class StageFailedError(WorkersError):
    """Raised when a stage of a pipeline gave a record up, or its workers get nothing done.

    Attributes: `stage`; of a record that was given up also `source` ("TOPIC:PARTITION:OFFSET"),
    `reason`, `type_name` and `traceback` of what its handler raised, else "".
    """

    def __init__(
        self,
        message: str = "",
        *,
        stage: str = "",
        source: str = "",
        reason: str = "",
        type_name: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.source = source
        self.reason = reason
        self.type_name = type_name
        self.traceback = traceback


class PipelineStalledError(WorkersError, TimeoutError):
    """Raised when nothing was done anywhere in a pipeline for `stall_timeout_s`.

    Attributes: `stage`, the last one that waits for room behind it, "" if none does.
    """

    def __init__(self, message: str = "", *, stage: str = "") -> None:
        super().__init__(message)
        self.stage = stage


class WorkerDied(WorkersError):
    """Raised for a task whose worker process ended while it ran the task.

    Attributes: `pid`, `exit_code` (None if a signal ended it, or if it is not known), `signal`
    (its number, else None), `out_of_memory` (True if the kernel's OOM killer did it).
    """

    def __init__(
        self,
        message: str = "",
        *,
        pid: int = 0,
        exit_code: int | None = None,
        signal: int | None = None,
        out_of_memory: bool = False,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.out_of_memory = out_of_memory

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args, self.__dict__)


class ExecutorInUseError(WorkersError):
    """Raised when an executor of the same name runs: a durable one has one program at a time."""


class UnknownTaskError(WorkersError, KeyError):
    """Raised for a number of which a durable executor has no task (any more)."""

    __str__ = Exception.__str__  # a KeyError would show the text in quotes


class DetachedError(WorkersError):
    """Raised by futures of tasks that were not done when their durable executor was detached.

    The tasks are still there: the next executor of the name has futures of them.
    """


class TaskTimeout(WorkersError, TimeoutError):
    """Raised in a handler that runs longer than its timeout; a kill follows if it goes on."""


class TaskPostponed(WorkersError):
    """Raised in a handler of batches whose record is to come again later. No attempt is counted.

    Attribute: `delay_ms`.
    """

    def __init__(self, message: str = "", delay_ms: float = 0.0) -> None:
        super().__init__(message)
        self.delay_ms = delay_ms


class TaskInterrupted(BaseException):
    """Raised in a handler that still runs when a drain runs out of time. No attempt is counted.

    Not an Exception: a handler that goes on after any error must not go on after this one.
    """


class RemoteError(WorkersError):
    """Stands for an exception of a worker that cannot be made again in this process.

    Attributes: `type_name` (with its module), `text` (its message), `traceback` (the whole chain,
    as Python would have printed it), `notes`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        text: str = "",
        traceback: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback
        self.notes = notes

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(
    made: type[WorkersError], args: tuple[Any, ...], state: dict[str, Any]
) -> WorkersError:
    # keyword-only attributes do not fit the default way of pickling an exception
    error = made(*args)
    error.__dict__.update(state)
    return error
