"""Work in a thread of its own, whose start cannot hang.

`threading.Thread.start` waits until the new thread says that it runs. One that finds no memory
before it can say so never does: CPython prints an error, and whoever started it waits for ever.
"""

import _thread
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

#: A thread that has not begun by then may be dead, in seconds; if not, it finds nothing to do.
START_S: Final = 2.0


class Task:
    """One call in a thread: begun by that thread, or else by whoever waits for it. Once."""

    def __init__(self, work: Callable[[], None], what: str) -> None:
        """`what` is being done, for messages. `work` is to raise nothing that is to be known."""
        self._work = work
        self._turn = threading.Lock()  # taken once, never given back
        self._done = threading.Event()
        self._begins_by = time.monotonic() + START_S
        try:
            _thread.start_new_thread(self._run, ())
        except (RuntimeError, MemoryError) as error:
            logger.warning("%s has no thread: %s", what, error)
            self._begins_by = 0.0

    def _run(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._work()
            finally:
                self._done.set()

    @property
    def is_done(self) -> bool:
        """True when it has ended, well or not."""
        return self._done.is_set()

    @property
    def is_late(self) -> bool:
        """True if its thread should have begun, and has not."""
        return time.monotonic() > self._begins_by and not self._turn.locked()

    def join(self) -> None:
        """Until it has ended, well or not."""
        if not self._done.wait(max(0.0, self._begins_by - time.monotonic())):
            self._run()
            self._done.wait()

    def cancel(self) -> bool:
        """True if nobody has begun with it, and nobody will."""
        return self._turn.acquire(blocking=False)
