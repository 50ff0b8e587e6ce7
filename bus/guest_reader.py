"""Reading a partition of another user's bus, hot and durable, by copying: see native/guest.pxi."""

import os
from collections.abc import Callable
from typing import Any

from bus.durable import DATA_START
from bus.guest import GuestClient
from bus.lease import Lease
from bus.native.core import GuestCursor, GuestLog, Mapping, find_time, parse_header
from bus.structs import TopicPartition


class GuestReader(GuestCursor):
    """A guest's cursor that also reads what is no longer in RAM."""

    def __init__(
        self,
        lease: Lease,
        log: GuestLog,
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
            check_crcs=check_crcs,
            durable_only=durable_only,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
        )
        assert isinstance(lease.client, GuestClient)
        self._lease = lease
        self._client = lease.client

    def open_cold(self, offset: int) -> tuple[Mapping, int, int, int] | None:
        """The durable segment with this offset, or the first one behind it; None if none is."""
        topic, partition = self.topic_partition
        try:
            fd = self._client.ask_for_file(
                "durable", topic=topic, partition=partition, offset=offset
            )
        except FileNotFoundError:
            return None
        try:
            segment = Mapping(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        header = parse_header(memoryview(segment)[:DATA_START])
        return segment, header.number, header.base_offset, header.previous_end

    def offset_for_time(self, timestamp_ns: int) -> tuple[int, int] | None:
        """(offset, timestamp in ns) of the first record at or after that time, or None."""
        offset, hot_start = self.log.log_start_offset, self.log.hot_start_offset
        while offset < hot_start and (cold := self.open_cold(offset)) is not None:
            segment = cold[0]
            found = find_time(segment, timestamp_ns)
            if found is not None and found[0] >= self.log.log_start_offset:
                return found
            end = _end_of(segment)
            if end <= offset:
                break
            offset = end
        return self.find_time(timestamp_ns)


def _end_of(segment: Mapping) -> int:
    return parse_header(memoryview(segment)[:DATA_START]).end_offset
