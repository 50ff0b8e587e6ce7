"""A sealed durable segment on its way to the disk, while the replica copies the next one.

The file after it keeps a temporary name until this is done: so it stays true that all durable
segments but the newest are complete (see bus.durable).
"""

from bus.mirror import Mirror, MirrorError
from bus.tasks import Task


class PendingSync:
    """One fdatasync in a thread of its own. The mirror belongs to it until `wait` returns.

    Where no thread can be had, the caller waits for the disk instead.
    """

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._error: MirrorError | None = MirrorError("its sync ended without a word")
        self._task = Task(self._sync, f"the sync of segment {mirror.number}")

    def _sync(self) -> None:
        try:
            self.mirror.sync()
        except MirrorError as error:
            self._error = error
        else:  # whatever else is raised, memory that ran out say, is no promise
            self._error = None

    @property
    def is_done(self) -> bool:
        """True when `wait` will not wait for a thread."""
        return self._task.is_done or self._task.is_late

    def join(self) -> None:
        """Until the sync has ended, well or not."""
        self._task.join()

    def wait(self) -> None:
        """Until the segment is on disk. Raises MirrorError: it never will be, by this file."""
        self.join()
        if self._error is not None:
            raise self._error
