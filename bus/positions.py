"""Where partitions begin and end, what offset belongs to a time, and where a reader starts."""

from collections.abc import Collection, Mapping

from bus.client import Client
from bus.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from bus.log import PartitionReader
from bus.native.core import Partition
from bus.options import OffsetReset
from bus.structs import OffsetAndTimestamp, TopicPartition


class Positions:
    """Looks at partitions through one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def log(self, partition: TopicPartition) -> Partition:
        """The hot log. Raises UnknownTopicOrPartitionError."""
        return self._client.partition(self._client.topic(partition.topic), partition.partition)

    def beginning(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The smallest offset that can be read, for each partition."""
        return {tp: self.log(tp).log_start_offset for tp in partitions}

    def end(
        self, partitions: Collection[TopicPartition], *, durable: bool = False
    ) -> dict[TopicPartition, int]:
        """The offset that the next record will get, or the high watermark, for each partition."""
        logs = {tp: self.log(tp) for tp in partitions}
        if durable:
            return {tp: log.high_watermark for tp, log in logs.items()}
        return {tp: log.log_end_offset for tp, log in logs.items()}

    def check(self, partition: TopicPartition, offset: int) -> None:
        """Raise OffsetOutOfRangeError for an offset that no record will have next."""
        end = self.log(partition).log_end_offset
        if not 0 <= offset <= end:
            raise OffsetOutOfRangeError(
                f"cannot commit offset {offset} of {partition.topic}-{partition.partition}: the log"
                f" ends at {end}"
            )

    def start(self, partition: TopicPartition, reset: OffsetReset) -> int:
        """Where reading begins without a committed offset. Raises NoOffsetForPartitionError."""
        if reset == "none":
            raise NoOffsetForPartitionError(
                f"no committed offset for {partition.topic}-{partition.partition} that can still be"
                " read, and auto_offset_reset='none'; seek, or choose 'earliest' or 'latest'"
            )
        log = self.log(partition)
        return log.log_start_offset if reset == "earliest" else log.log_end_offset

    def for_times(
        self, readers: Mapping[TopicPartition, PartitionReader], times: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time (ms), read through the given readers."""
        found: dict[TopicPartition, OffsetAndTimestamp | None] = {}
        for tp, timestamp_ms in times.items():
            hit = readers[tp].offset_for_time(timestamp_ms * 1_000_000)
            found[tp] = OffsetAndTimestamp(hit[0], hit[1] // 1_000_000) if hit else None
        return found
