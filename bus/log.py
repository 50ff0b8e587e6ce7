"""Reading one partition across both tiers: hot segments in RAM, durable ones on disk.

    offset in the hot ring   ─► pinned and read in place (native/cursor.pxi)
    older than that          ─► the durable segment, mapped read-only, found by its file name

A segment leaves the hot ring only when it is durable and sealed, so whatever is not hot is whole
on disk, up to its end frame. A frame that is damaged in one tier is read from the other, as long as
both have the segment.
"""

from collections.abc import Callable
from typing import Any

from bus.cold import ColdSegment, ColdSegments
from bus.files import path_of
from bus.lease import Lease
from bus.native.core import Cursor, HotLog, Mapping, Partition, find_time
from bus.structs import TopicPartition


class BothTiers:
    """Where a cursor finds what is no longer in RAM, or is damaged there."""

    log: HotLog
    _cold: ColdSegments

    def open_cold(self, offset: int) -> ColdSegment | None:
        """The durable segment with this offset, or the first one behind it; None if none is."""
        return self._cold.find(offset)

    def open_copy(self, number: int) -> Mapping | None:
        """The durable copy of a hot segment, as far as it goes; None if there is none."""
        for slot in self.log.ring():
            if slot.number == number:
                return self._cold.copy(number, slot.base_offset)
        return None

    def file_of(self, number: int, hot: bool) -> str:
        """Path of a segment's file, for messages."""
        if not hot:
            return self._cold.file_of(number)
        serials = [slot.serial for slot in self.log.ring() if slot.number == number]
        name = f"{self.log.topic_id}-{self.log.partition}.{serials[0] if serials else 0}.seg"
        return f"{path_of(self.log.hot_fd)}/{name}"

    def offset_behind(self, offset: int) -> int | None:
        """Base offset of the first durable segment behind that offset, or None."""
        return self._cold.base_behind(offset)


class PartitionReader(BothTiers, Cursor):
    """A cursor that also reads what is no longer in RAM."""

    log: HotLog

    def __init__(
        self,
        lease: Lease,
        log: Partition,
        topic_partition: TopicPartition,
        offset: int,
        *,
        check_crcs: bool = True,
        durable_only: bool = False,
        key_deserializer: Callable[[bytes], Any] | None = None,
        value_deserializer: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(
            log,
            topic_partition.topic,
            offset,
            generation=lease.client.slot.generation,
            owner=lease,
            check_crcs=check_crcs,
            durable_only=durable_only,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
        )
        path = lease.client.directory.partition_path(*topic_partition)
        self._cold = ColdSegments(path, log, topic_partition)

    def offset_for_time(self, timestamp_ns: int) -> tuple[int, int] | None:
        """(offset, timestamp in ns) of the first record at or after that time, or None."""
        start = self.log.log_start_offset
        for segment in self._cold.all_from(start):
            found = find_time(segment.mapping, timestamp_ns)
            if found and found[0] >= start:
                return found
        return self.find_time(timestamp_ns)
