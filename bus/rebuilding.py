"""A new hot log for one partition, made of what could be saved of the old one.

See `bus.salvage`. Which segments are wanted is decided by what the durable log holds; then they
are copied, and a control page is made around them. The next record gets the reserved offset
limit: which offsets were given out last cannot be known any more, and none may come twice.
"""

import logging
import os
from dataclasses import replace
from typing import NamedTuple

from bus import salvage
from bus.catalog import Topic
from bus.directory import BusDirectory
from bus.durable import list_segments
from bus.errors import CorruptSegmentError
from bus.files import open_directory
from bus.hotdir import HotDirectory
from bus.incidents import Incident
from bus.native.core import Bells, Partition
from bus.recovery import recover, scan_tail
from bus.rings import Rings
from bus.state import PartitionState, offset_limit_for, store_state

logger = logging.getLogger(__name__)


class DurableEnd(NamedTuple):
    """Where the durable log ends, and the number of the segment that goes on behind it."""

    offset: int
    number: int


def rebuild(
    directory: BusDirectory,
    hot: HotDirectory,
    bells: Bells,
    rings: Rings,
    topic: Topic,
    number: int,
    state: PartitionState,
) -> bool:
    """Makes the control page and the segments; False if no record was there to be saved.

    Nobody else may have the partition's durable files open. Raises OSError and BusError.
    """
    assert hot.aside is not None
    old_fd = open_directory(hot.aside)
    try:
        found = salvage.find(old_fd, directory.bus_id, topic.id, number)
        end = _durable_end(directory, topic, number, state, {one.header.number for one in found})
        wanted = [one for one in found if one.header.number >= end.number]
        rings.remove(topic.id, number)
        names = [rings.new_file(topic.id, number) for _ in wanted]
        saved = salvage.copy_all(old_fd, hot.fd, wanted, names, end.offset)
    finally:
        os.close(old_fd)
    if not any(one.end_offset > max(one.base_offset, end.offset) for one in saved):
        rings.remove(topic.id, number)
        return False
    base = max(state.offset_limit, saved[-1].end_offset)
    state = replace(state, offset_limit=offset_limit_for(base))
    store_state(directory, topic.name, number, state)
    _make_page(directory, hot, bells, topic, number, state, saved, base, end.offset)
    hot.incidents.note(
        Incident.PARTITION_RECOVERED,
        "%s-%d: records %d to %d were saved from a spoiled hot log; the next offset is %d",
        topic.name,
        number,
        end.offset,
        saved[-1].end_offset - 1,
        base,
    )
    return True


def _durable_end(
    directory: BusDirectory, topic: Topic, number: int, state: PartitionState, hot: set[int]
) -> DurableEnd:
    """An unfinished durable segment is left for the replica, if the hot one is there to go on."""
    path = directory.partition_path(topic.name, number)
    dir_fd = directory.open_partition(topic.name, number)
    try:
        bases = list_segments(dir_fd)
        if bases:
            tail = scan_tail(dir_fd, bases[-1])
            if not tail.sealed and tail.number in hot:
                return DurableEnd(tail.next_offset, tail.number)
    except CorruptSegmentError as error:
        logger.error("%s: %s", path, error)  # recovery sets the file aside
    finally:
        os.close(dir_fd)
    plan = recover(path, state)
    return DurableEnd(plan.previous_end if bases else 0, plan.number)


def _make_page(
    directory: BusDirectory,
    hot: HotDirectory,
    bells: Bells,
    topic: Topic,
    number: int,
    state: PartitionState,
    saved: list[salvage.Saved],
    base: int,
    durable_end: int,
) -> None:
    """The control page; the segments are in its ring before anybody can attach to the bus."""
    Partition.create(
        hot.fd,
        bus_id=directory.bus_id,
        topic_id=topic.id,
        partition=number,
        flags=topic.flags,
        segment_bytes=topic.config.segment_bytes,
        hot_bytes=topic.config.hot_bytes,
        max_message_bytes=topic.config.max_message_bytes,
        offset_limit=state.offset_limit,
        log_start_offset=state.log_start_offset,
        base_offset=base,
        previous_end=saved[-1].end_offset,
        number=saved[-1].number + 1,
        high_watermark=durable_end,
    )
    log = Partition(hot.fd, topic.id, number, bells, 0)
    for one in saved:
        log.add_segment(one.serial, one.size, one.number, one.base_offset, one.end_offset)
