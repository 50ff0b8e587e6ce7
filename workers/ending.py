"""The end of workers: asked, interrupted, killed, each in its time.

A worker that is to end is sent SIGTERM at once, SOFT when its time is over, and SIGKILL a second
later. The tasks that it still has in hand then get the verdict INTERRUPT beforehand: that they
were not finished is no fault of theirs.
"""

import signal
from collections.abc import Sequence

from workers.post import SOFT
from workers.worker import Stage, Worker


class Ending:
    """When all workers are to end; and what is due to those that are ending."""

    def __init__(self) -> None:
        #: monotonic seconds; None: nobody has asked
        self._soft_at_s: float | None = None

    @property
    def asked(self) -> bool:
        """True if all workers are to end."""
        return self._soft_at_s is not None

    def ask(self, soft_at_s: float) -> None:
        """All workers are to end by then. An earlier time than before counts, a later one not."""
        before = self._soft_at_s
        self._soft_at_s = soft_at_s if before is None else min(before, soft_at_s)

    def retire(self, worker: Worker, soft_at_s: float) -> None:
        """This worker is to end by then."""
        if worker.stage is not Stage.RETIRING:
            worker.stage = Stage.RETIRING
            worker.process.send(signal.SIGTERM)
        if not worker.kill_at_s or soft_at_s < worker.soft_at_s:
            worker.end_by(soft_at_s)

    def press(self, workers: Sequence[Worker], now_s: float) -> None:
        """Asks those who do not know yet."""
        if self._soft_at_s is not None:
            for worker in workers:
                self.retire(worker, self._soft_at_s)


def interrupt(worker: Worker) -> None:
    """Raises TaskInterrupted in the handler, for the time to drain is over."""
    worker.soft_at_s = float("inf")
    worker.process.send(SOFT)
