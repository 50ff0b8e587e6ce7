"""One doorbell for all partitions that a replica process follows, each with a thread of its own.

The main thread answers the door: it sleeps on the process's doorbell, looks at each partition when
it is rung, and calls those threads whose log has grown. If each slept on the bell by itself, every
record would wake all of them; and each would need a client slot, of which there are not so many.

No wake-up is lost: a thread clears its event, asks to be rung, and looks at the tail once more
before it sleeps. Should the bell itself get lost, the porter looks every IDLE_MS all the same.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bus.errors import BrokerNotRunningError, BusError
from bus.native.core import Bells, Partition
from bus.stop_request import Stop
from bus.tasks import Task

#: The longest sleep of an idle replica; then it looks whether it is needed still.
IDLE_MS: Final = 2_000.0


class Lodger(Partition):
    """A partition whose thread sleeps until the porter calls it."""

    def __init__(self, hot_fd: int, topic_id: int, partition: int, bells: Bells, slot: int) -> None:
        super().__init__(hot_fd, topic_id, partition, bells, slot)
        self.called = threading.Event()
        self.place = (0, 0)
        #: the thread is to end: it waits no more, and raises `gone` if that is why
        self.dismissed = False
        self.gone: BrokerNotRunningError | None = None
        self._is_idle = False

    @property
    def has_grown(self) -> bool:
        """True if there is something beyond the place that the thread waits for."""
        return self.tail > self.place

    def wait_data(self, number: int, position: int, timeout_ms: float) -> bool:
        """Waits until the log reaches beyond that place; True if it does.

        False after `timeout_ms`, the first time already after IDLE_MS, so that an idle follower
        gives back what it does not need. Raises BrokerNotRunningError.
        """
        self.place = (number, position)
        self.called.clear()
        self.arm()
        if not (self.has_grown or self.dismissed):
            longest_ms = timeout_ms if self._is_idle else min(timeout_ms, IDLE_MS)
            self._is_idle = not self.called.wait(longest_ms / 1e3)
        if self.gone is not None:
            raise self.gone
        if self.has_grown:
            self._is_idle = False
            return True
        return False


class Porter:
    """Sleeps on the doorbell in `slot` and calls the lodgers."""

    def __init__(self, hot_fd: int, bells: Bells, slot: int, stop: Stop) -> None:
        self._hot_fd = hot_fd
        self._bells = bells
        self._slot = slot
        self._stop = stop
        self._lodgers: list[Lodger] = []
        self._ended: list[None] = []
        #: neither a broker nor a client is alive: who has nothing to do ends
        self.is_alone = False

    def lodge(self, topic_id: int, partition: int) -> Lodger:
        """A partition for a thread of this process."""
        lodger = Lodger(self._hot_fd, topic_id, partition, self._bells, self._slot)
        self._lodgers.append(lodger)
        return lodger

    def serve(self, work: Sequence[Callable[[], None]], is_alone: Callable[[], bool]) -> None:
        """Runs each of `work` in a thread of its own, and the door until all have ended.

        Raises BusError if there is no thread for one of them: another process is to try it.
        """
        tasks = [Task(partial(self._run, one), "a replica among several") for one in work]
        while len(self._ended) < len(work) and not self._stop.requested:
            try:
                rung = self._stop.sleep(lambda: self._bells.wait(self._slot, IDLE_MS))
            except BrokerNotRunningError as error:
                self._dismiss(error)
                break
            if any(task.is_late for task in tasks):
                raise BusError("a replica found no thread to run in")
            self.is_alone = not rung and is_alone()
            self._call()
        self._dismiss(None)
        for task in tasks:
            if not task.cancel():
                task.join()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._ended.append(None)
            self._bells.ring(self._slot)

    def _call(self) -> None:
        for lodger in self._lodgers:
            if self.is_alone or lodger.has_grown:
                lodger.called.set()

    def _dismiss(self, gone: BrokerNotRunningError | None) -> None:
        """A thread that is just about to sleep sees that it is dismissed; one that sleeps wakes."""
        for lodger in self._lodgers:
            lodger.gone = lodger.gone or gone
            lodger.dismissed = True
            lodger.called.set()
