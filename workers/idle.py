"""Waits for a pool's group to have nothing left to do, and shows how far it is."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import bus
from bus.errors import BusError
from workers.backlog import Backlog, backlog
from workers.figures import Statistics
from workers.order import Order

if TYPE_CHECKING:
    from workers.bar import Bar

logger = logging.getLogger(__name__)

LOOK_PAUSE_S: Final = 0.1
#: Between two words about a bus that does not answer.
_TELL_S: Final = 10.0


class IdleWatch:
    """Looks at what is left of the topics of a pool, ten times a second.

    All of a topic is done when the group's committed offset is its log's end: what is in hand, or
    waits for the end of a pause, is not.
    """

    def __init__(self, order: Order, read: Callable[[], Statistics], bar: "Bar") -> None:
        self._order = order
        self._read = read
        self._bar = bar
        self._tell_at_s = 0.0

    def wait(self, ended: Callable[[float], bool], timeout_s: float | None) -> bool:
        """Returns True once nothing is left; False after the time, or when the pool has ended.

        `ended` waits for that, for so many seconds.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._bar.open()
        try:
            with bus.Admin(self._order.address) as admin:
                while True:
                    if self._is_idle(admin):
                        return True
                    left_s = LOOK_PAUSE_S
                    if deadline_s is not None:
                        left_s = min(left_s, deadline_s - time.monotonic())
                    if left_s <= 0 or ended(left_s):
                        return False
        finally:
            self._bar.close()

    def _is_idle(self, admin: bus.Admin) -> bool:
        try:
            found = backlog(admin, self._order.group, self._order.topics)
        except BusError as error:
            if time.monotonic() >= self._tell_at_s:
                self._tell_at_s = time.monotonic() + _TELL_S
                logger.warning("what is left cannot be told now: %s", error)
            return False
        self._show(found)
        return not any(one.lag for one in found)

    def _show(self, found: list[Backlog]) -> None:
        told = self._read()
        done = told.done + told.dead
        self._bar.update(done, done + sum(one.left for one in found), told.failed)
