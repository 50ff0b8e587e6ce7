"""Small values that travel through the public interface; shapes and names as in kafka-python."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class OffsetAndMetadata(NamedTuple):
    """What a group commits: the next offset to be read, and a free text of its own."""

    offset: int
    metadata: str = ""
    #: reserved, always -1: one host has no leader elections
    leader_epoch: int = -1


class OffsetAndTimestamp(NamedTuple):
    """The first offset at or after a time, and its own timestamp in milliseconds."""

    offset: int
    timestamp: int
    leader_epoch: int = -1


class RecordMetadata(NamedTuple):
    """Where a sent record went. `timestamp` is in milliseconds; sizes are bytes, -1 for None."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    serialized_key_size: int = -1
    serialized_value_size: int = -1

    @property
    def topic_partition(self) -> TopicPartition:
        """Topic and partition as one value."""
        return TopicPartition(self.topic, self.partition)


class ConsumerGroupMetadata(NamedTuple):
    """Who a consumer is within its group, at one generation."""

    group_id: str
    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None


@dataclass(frozen=True)
class NewTopic:
    """A topic to be created.

    `num_partitions` of -1 means the broker's default. `replication_factor` is accepted for
    kafka-python's sake and ignored: there is one host.
    """

    name: str
    num_partitions: int = 1
    replication_factor: int = 1
    topic_configs: Mapping[str, object] = field(default_factory=dict)
