"""Applies retention: looks at what each partition holds, asks `bus.retention`, acts.

Durable segments of replicated topics are deleted; memory topics give up sealed hot segments.
"""

import logging
import os
from typing import Final

from bus import files
from bus.directory import BusDirectory
from bus.durable import list_segments, open_dir, open_segment, read_header
from bus.errors import BusError, CorruptSegmentError
from bus.fields import Fields
from bus.hotdir import HotDirectory
from bus.inventory import Inventory
from bus.native.core import LAYOUT, parse_header
from bus.open_partition import OpenPartition
from bus.retention import RetentionPolicy, StoredSegment, is_expired, segments_to_delete
from bus.rings import control_file_name
from bus.wall_clock import WallClock

logger = logging.getLogger(__name__)

_END: Final = Fields("bus_end", {"tail": "Q", "next_offset": "Q", "max_timestamp": "q"})
_ENDS_AT: Final = LAYOUT["bus_partition.ends"]


class Retainer:
    """Deletes what the topics' retention lets go."""

    def __init__(self, directory: BusDirectory, hot: HotDirectory, inventory: Inventory) -> None:
        self._directory = directory
        self._hot = hot
        self._inventory = inventory
        self._clock = WallClock(directory, hot.incidents)
        #: segments deleted, and active segments sealed because all in them was too old
        self.deleted = 0
        self.rolled = 0

    def run(self) -> None:
        """Looks at every partition once; an error in one is logged and leaves the others."""
        now_ns = self._clock.now_ns()
        for partition in list(self._inventory.partitions()):
            config = partition.topic.config
            policy = RetentionPolicy(config.retention_ms, config.retention_bytes)
            if policy.keeps_all or config.cleanup_policy != "delete":
                continue
            try:
                self._roll_expired(partition, policy, now_ns)
                self._delete(partition, policy, now_ns)
            except (OSError, BusError) as error:
                logger.error("retention of %s: %s", partition.name, error)

    def _roll_expired(self, partition: OpenPartition, policy: RetentionPolicy, now_ns: int) -> None:
        newest = self._newest_timestamp(partition)
        if newest is None or not is_expired(newest, policy, now_ns):
            return
        self._inventory.rings.feed(partition.log)
        if partition.log.roll():
            self.rolled += 1

    def _newest_timestamp(self, partition: OpenPartition) -> int | None:
        """Of the active segment's records, in ns; None if it has none."""
        log = partition.log
        number, position = log.tail
        base = next((slot.base_offset for slot in log.ring() if slot.number == number), None)
        if base is None or base >= log.log_end_offset:
            return None
        name = control_file_name(partition.topic.id, partition.number)
        fd = files.open_own(name, os.O_RDONLY, dir_fd=self._hot.fd)
        try:
            ends = os.pread(fd, 2 * _END.size, _ENDS_AT)
        finally:
            os.close(fd)
        for at in (0, _END.size):
            end = _END.read(ends, at)
            if end["tail"] == number << 32 | position:
                return end["max_timestamp"]
        return None  # the log moved while we looked, so it is not idle

    def _delete(self, partition: OpenPartition, policy: RetentionPolicy, now_ns: int) -> None:
        segments = (
            self._durable_segments(partition, now_ns)
            if partition.is_replicated
            else self._hot_segments(partition)
        )
        count = segments_to_delete(segments, policy, now_ns)
        if not count:
            return
        start = segments[count].base_offset
        self._inventory.raise_log_start(partition, start)
        self.deleted += count
        logger.info("%s: %d segments deleted, it starts at %d now", partition.name, count, start)

    def _durable_segments(self, partition: OpenPartition, now_ns: int) -> list[StoredSegment]:
        """All durable segments; the newest one stays, for the replica goes on from it."""
        path = self._directory.partition_path(partition.topic.name, partition.number)
        with open_dir(path) as dir_fd:
            tail = partition.log.tail
            stored = [_stored(dir_fd, base, tail) for base in list_segments(dir_fd)]
            newest = read_header(dir_fd, stored[-1].base_offset) if stored else None
        if newest is not None and newest.end_offset and newest.number < tail[0]:
            # The active segment is empty and has no file yet. The newest file stays, but its
            # records can go: the log then starts where it ends.
            stored.append(StoredSegment(newest.end_offset, 0, now_ns))
        return stored

    def _hot_segments(self, partition: OpenPartition) -> list[StoredSegment]:
        stored = []
        slots = sorted((s for s in partition.log.ring() if s.number), key=lambda s: s.number)
        for slot in slots:
            try:
                header = parse_header(partition.log.segment_header(slot.number, slot.base_offset))
            except CorruptSegmentError:
                continue  # recycled while we looked
            size = header.end_position or slot.bytes
            stored.append(StoredSegment(header.base_offset, size, header.max_timestamp))
        return stored


def _stored(dir_fd: int, base_offset: int, tail: tuple[int, int]) -> StoredSegment:
    """A durable segment; `tail` says how full the one is that is not sealed yet."""
    header = read_header(dir_fd, base_offset)
    if header.end_position and header.max_timestamp > 0:
        return StoredSegment(base_offset, header.end_position, header.max_timestamp)
    fd = open_segment(dir_fd, base_offset)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    size = tail[1] if header.number == tail[0] else header.end_position or header.bytes
    return StoredSegment(base_offset, size, status.st_mtime_ns)
