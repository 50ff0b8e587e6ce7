"""Reading one partition across both tiers: hot segments in RAM, durable ones on disk.

    offset in the hot ring   ─► pinned and read in place (native/cursor.pxi)
    older than that          ─► the durable segment, mapped read-only, found by its file name

A segment leaves the hot ring only when it is durable and sealed, so whatever is not hot is whole
on disk, up to its end frame.
"""

import os
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from bus.durable import DATA_START, list_segments, open_dir, open_segment
from bus.lease import Lease
from bus.native.core import Cursor, Mapping, Partition, find_time, parse_header
from bus.structs import TopicPartition


class PartitionReader(Cursor):
    """A cursor that also reads what is no longer in RAM."""

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
        value_deserializer: Callable[[bytes], Any] | None = None,
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
        self._path = lease.client.directory.partition_path(*topic_partition)

    def open_cold(self, offset: int) -> Mapping | None:
        """The durable segment with this offset, or the first one behind it; None if none is."""
        if not self._path.exists():
            return None
        with open_dir(self._path) as dir_fd:
            bases = list_segments(dir_fd)
            first = max(bisect_right(bases, offset) - 1, 0)
            for base in bases[first:]:
                mapping = self._map_if_beyond(dir_fd, base, offset)
                if mapping is not None:
                    return mapping
        return None

    def _map_if_beyond(self, dir_fd: int, base: int, offset: int) -> Mapping | None:
        """The segment, if it is sealed and ends behind the offset. A deleted one counts as none."""
        try:
            fd = open_segment(dir_fd, base)
        except FileNotFoundError:
            return None
        try:
            header = parse_header(os.pread(fd, DATA_START, 0))
            if header.end_offset <= offset:
                return None
            return Mapping(fd, header.bytes)
        finally:
            os.close(fd)

    def offset_for_time(self, timestamp_ns: int) -> tuple[int, int] | None:
        """(offset, timestamp in ns) of the first record at or after that time, or None."""
        if self._path.exists():
            with open_dir(self._path) as dir_fd:
                for base in list_segments(dir_fd):
                    found = self._search_cold(dir_fd, base, timestamp_ns)
                    if found is not None:
                        return found
        return self.find_time(timestamp_ns)

    def _search_cold(self, dir_fd: int, base: int, timestamp_ns: int) -> tuple[int, int] | None:
        mapping = self._map_if_beyond(dir_fd, base, self.log.log_start_offset)
        if mapping is None or parse_header(mapping).max_timestamp < timestamp_ns:
            return None
        found = find_time(mapping, timestamp_ns)
        return found if found and found[0] >= self.log.log_start_offset else None
