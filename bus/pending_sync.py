"""A sealed durable segment on its way to the disk, while the replica copies the next one.

The file after it keeps a temporary name until this is done: so it stays true that all durable
segments but the newest are complete (see bus.durable).
"""

import logging
import threading

from bus.mirror import Mirror, MirrorError

logger = logging.getLogger(__name__)


class PendingSync:
    """One fdatasync in a thread of its own. The mirror belongs to it until `wait` returns.

    Where no thread can be had, the caller waits for the disk instead.
    """

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._error: MirrorError | None = None
        self._thread = threading.Thread(target=self._run, name="bus-sync", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            logger.warning("segment %d is synced without a thread: %s", mirror.number, error)
            self._run()

    def _run(self) -> None:
        try:
            self.mirror.sync()
        except MirrorError as error:
            self._error = error

    @property
    def is_done(self) -> bool:
        """True when `wait` will not wait."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Until the sync has ended, well or not."""
        if self._thread.ident is not None:
            self._thread.join()

    def wait(self) -> None:
        """Until the segment is on disk. Raises MirrorError: it never will be, by this file."""
        self.join()
        if self._error is not None:
            raise self._error
