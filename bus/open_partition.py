"""A partition as the broker holds it, and how it lives with a lock that is held for long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bus.catalog import Topic
from bus.config import KIB, MIB
from bus.errors import IllegalStateError, LockTimeoutError
from bus.incidents import Incident, Incidents
from bus.native.core import Partition
from bus.state import PartitionState

#: What a hot file has beyond the largest record: header, index, frame, padding. Files are multiples
#: of 1 MiB.
FILE_OVERHEAD_BYTES: Final = 64 * KIB


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

    @property
    def need_bytes_max(self) -> int:
        """The largest hot file that a producer of this topic can ever wait for."""
        config = self.topic.config
        largest = config.max_message_bytes + FILE_OVERHEAD_BYTES
        ahead = max(config.segment_bytes, config.hot_bytes // 32)  # as in ring.c
        return max(-(-largest // MIB) * MIB, ahead)

    def check_need(self, need: int) -> None:
        """Raises IllegalStateError if no producer can wait for a hot file of that size."""
        if not 0 <= need <= self.need_bytes_max:
            raise IllegalStateError(
                f"{self.name}: no producer waits for a hot file of {need} bytes; the largest has"
                f" {self.need_bytes_max}, by max.message.bytes and segment.bytes of the topic"
            )

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
