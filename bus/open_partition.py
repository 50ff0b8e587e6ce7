"""A partition as the broker holds it: its hot log, what is on disk of it, and what it is called."""

from dataclasses import dataclass

from bus.catalog import Topic
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

    @property
    def name(self) -> str:
        return f"{self.topic.name}-{self.number}"

    @property
    def is_replicated(self) -> bool:
        return self.topic.config.replicated
