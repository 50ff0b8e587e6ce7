"""What a runner notes of each attempt, and the death of a worker that a test asks for."""

import os
import signal as signals
from dataclasses import dataclass
from typing import NoReturn

from workers.attempts import Outcome
from workers.block import Block, Task
from workers.current_task import CurrentTask
from workers.exits import Cause, Exit
from workers.testing.clock import FakeClock
from workers.testing.queue import Queue
from workers.testing.record import Record
from workers.verdicts import Kind


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a record.

    `number` is 1 for the first one. `error` is what the handler raised. `decision` says in words
    what came of it. `started_s` and `took_s` are seconds of the fake clock.
    """

    record: Record
    number: int
    outcome: Outcome
    error: BaseException | None
    decision: str
    started_s: float
    took_s: float


class ProcessDeath(BaseException):
    """Stands for the end of the worker process. Raised through the handler, and never settled."""

    def __init__(self, exit: Exit, kind: Kind, late: Task | None = None) -> None:
        """`late`: the task for which it was killed."""
        super().__init__(str(exit))
        self.exit = exit
        self.kind = kind
        self.late = late


def crash(
    signal: int = signals.SIGKILL, *, exit_code: int | None = None, out_of_memory: bool = False
) -> NoReturn:
    """In a handler under test: its worker process ends here, by a signal or with an exit code.

    Unlike in a real process, `finally` blocks of the handler run.
    """
    pid = os.getpid()
    if exit_code is not None:
        raise ProcessDeath(Exit(pid, Cause.ERROR, code=exit_code), Kind.CRASH)
    cause = Cause.OOM if out_of_memory else Cause.SIGNAL
    kind = Kind.OOM if out_of_memory else Kind.CRASH
    raise ProcessDeath(Exit(pid, cause, signal=signal), kind)


class Attempts:
    """The recorder of one worker life; `listed` is that of all. `death`: the process is no more."""

    def __init__(self, clock: FakeClock, block: Block, queue: Queue, listed: list[Attempt]) -> None:
        self._clock = clock
        self._queue = queue
        self._block = block
        self._listed = listed
        self.death: ProcessDeath | None = None

    def note(
        self,
        task: CurrentTask,
        outcome: Outcome,
        error: BaseException | None = None,
        decision: str = "",
    ) -> None:
        """An attempt ended. Raises ProcessDeath if the process did: the dead settle nothing."""
        if isinstance(error, ProcessDeath) and self.death is None:
            self.die(error)
        if self.death is not None:
            # a handler that was left where it waits is closed, at some time
            raise error if isinstance(error, GeneratorExit) else self.death
        record: Record = task.record  # type: ignore[assignment]
        since_ns = self._block.since_ns(task.slot)
        self.add(record, task.attempt, outcome, since_ns, error, decision)

    def die(self, death: ProcessDeath) -> None:
        """From now on nothing is begun, and nothing is settled."""
        self.death = self._queue.death = death

    def add(
        self,
        record: Record,
        number: int,
        outcome: Outcome,
        since_ns: int,
        error: BaseException | None = None,
        decision: str = "",
    ) -> None:
        """Notes an attempt that was begun at `since_ns` and ends now."""
        took_s = (self._clock.monotonic_ns - since_ns) / 1e9
        since_s = self._clock.now_s - took_s
        self._listed.append(Attempt(record, number, outcome, error, decision, since_s, took_s))
