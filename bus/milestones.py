"""How far a partition was durable, noted in its state: what a lost newest file can be told by.

A file that is gone with all that was in it leaves nothing that says so: the one before it looks
like the end of the log. So `state.json` says of each segment, once, that records of it are on disk.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from bus.errors import BusError
from bus.open_partition import OpenPartition
from bus.state import OFFSET_STEP, CleanEnd, PartitionState

logger = logging.getLogger(__name__)

#: States written in one round: each is synced, and the broker has other things to do.
NOTES_MAX: Final = 8


def next_note(partition: OpenPartition) -> CleanEnd | None:
    """What is to be noted of a partition, if there is anything new to say."""
    log, before = partition.log, partition.state.durable_end
    watermark, number = log.high_watermark, log.tail[0]
    if watermark <= log.log_start_offset or watermark % OFFSET_STEP == 0:
        return None  # no record, or only offsets that were skipped
    if before is not None and (before.number == number or before.offset >= watermark):
        return None
    return CleanEnd(watermark, number)


def note_durable(
    partitions: Iterable[OpenPartition], store: Callable[[OpenPartition, PartitionState], None]
) -> None:
    """Write what is to be noted, of a few partitions. A full disk is tried again."""
    left = NOTES_MAX
    for partition in partitions:
        note = next_note(partition) if partition.is_replicated else None
        if note is None:
            continue
        try:
            store(partition, replace(partition.state, durable_end=note))
        except BusError as error:
            logger.error("%s: %s", partition.name, error)
            return
        left -= 1
        if not left:
            return
