"""A partition as the broker holds it, and how it lives with a lock that is held for long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bus.catalog import Topic
from bus.errors import LockTimeoutError
from bus.incidents import Incident, Incidents
from bus.native.core import Partition
from bus.state import PartitionState


@dataclass(eq=False)
class OpenPartition:
    """A partition as the broker holds it."""

    topic: Topic
    number: int
    log: Partition
    state: PartitionState
    is_deleted: bool = False
    #: the tail at the last look: where nothing moved, nothing is to be done
    seen_tail: tuple[int, int] = (0, 0)
    #: a stopped process holds the lock, so that an append may still be under way after the fence
    is_unfenced: bool = False

    @property
    def name(self) -> str:
        return f"{self.topic.name}-{self.number}"

    @property
    def is_replicated(self) -> bool:
        return self.topic.config.replicated

    @contextmanager
    def or_later(self, incidents: Incidents) -> Iterator[None]:
        """For what can wait until a process that was stopped in the partition's lock continues.

        The next tick tries again. Each such holder is counted and named once.
        """
        before = self.log.stuck_tid
        try:
            yield
        except LockTimeoutError as error:
            self.seen_tail = (0, 0)
            if self.log.stuck_tid != before:
                incidents.note(Incident.LOCK_HELD, "%s; meanwhile the broker goes on", error)

    def fence(self, incidents: Incidents) -> None:
        """No further record is accepted; `is_unfenced` if one append may still be under way."""
        self.is_unfenced = True
        with self.or_later(incidents):
            self.log.fence()
            self.is_unfenced = False

    def reap(self, incidents: Incidents, slot: int, generation: int) -> bool:
        """Frees the readers of a dead client whose byte the caller holds; False: not yet."""
        freed = False
        with self.or_later(incidents):
            self.log.reap_readers(slot, generation, claims=True)
            freed = True
        return freed
