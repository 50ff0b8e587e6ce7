"""A worker that waits for room in the next topic: its time stands still, and it says who it is."""

import time
from typing import Final

from workers.current_task import CurrentTask

#: The first byte of what a worker tells its pipeline while it waits, followed by the reason.
HELD_UP: Final = b"H"
TELL_EVERY_S: Final = 1.0
_FOREVER_S: Final = 1e8


class Patience:
    """For one task. The handler's timeout is for its own work, not for waiting for others'."""

    def __init__(self, task: CurrentTask) -> None:
        self._task = task
        self._remaining_s: float | None = None
        self._told_s = 0.0
        self._is_held_up = False

    def held_up(self, reason: str) -> None:
        """There is no room, and why."""
        if not self._is_held_up:
            self._is_held_up = True
            self._remaining_s = self._task.remaining_s
            if self._remaining_s is not None:
                self._task.extend(_FOREVER_S)
        if time.monotonic() - self._told_s >= TELL_EVERY_S:
            self._told_s = time.monotonic()
            self._task.tell(HELD_UP + reason.encode(errors="replace"))

    def let_go(self) -> None:
        """There was room."""
        if self._is_held_up:
            self._is_held_up = False
            if self._remaining_s is not None:
                self._task.extend(self._remaining_s)
