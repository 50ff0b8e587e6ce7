"""Attempts at records, as whoever keeps a record of them is told: see workers/flight.py."""

from enum import IntEnum
from typing import Final, Protocol

from workers.current_task import CurrentTask
from workers.retry import Trouble


class Outcome(IntEnum):
    """How an attempt ended. The numbers are those of the flight record."""

    #: the handler returned
    DONE = 1
    FAILED = 2
    TIMEOUT = 3
    OOM = 4
    #: the worker was to end before the handler did
    INTERRUPTED = 5
    #: no handler was called: its record is given up for what happened to the workers before
    GIVEN_UP = 6
    #: the worker process ended with the record in hand
    DIED = 7
    #: its dead letter was sent again, or it was replayed, as the record that the text names
    REDRIVEN = 8
    REPLAYED = 9


OUTCOMES: Final = {
    Trouble.FAILURE: Outcome.FAILED,
    Trouble.TIMEOUT: Outcome.TIMEOUT,
    Trouble.OOM: Outcome.OOM,
    Trouble.CRASH: Outcome.DIED,
}


class Recorder(Protocol):
    """Is told of the end of each attempt, before the bus is."""

    def note(
        self,
        task: CurrentTask,
        outcome: Outcome,
        error: BaseException | None = None,
        decision: str = "",
    ) -> None:
        """An attempt ended. `error` is what the handler raised, `decision` what comes of it."""
