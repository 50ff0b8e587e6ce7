"""How far a partition was durable, noted in its state: what a lost newest file can be told by.

A file that is gone with all that was in it leaves nothing that says so: the one before it looks
like the end of the log. So `state.json` says of each segment, once, that records of it are on disk.

A state is synced when it is replaced, and the broker has one thread: a disk that hangs would take
it along. So the syncer asks the disk first, and states are written when it has just answered.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from bus.errors import BusError
from bus.open_partition import OpenPartition
from bus.state import OFFSET_STEP, CleanEnd, PartitionState
from bus.syncer import PROBE, Outcome, Syncer

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
    partitions: Collection[OpenPartition],
    store: Callable[[OpenPartition, PartitionState], None],
    syncer: Syncer,
) -> None:
    """Have what is to be noted written, of a few partitions, as soon as the disk answers.

    What is noted is what was seen now: the hot log may be overwritten until then.
    """
    if syncer.is_busy:
        return
    notes: list[tuple[OpenPartition, PartitionState, CleanEnd]] = []
    for partition in partitions:
        note = next_note(partition) if partition.is_replicated else None
        if note is not None and len(notes) < NOTES_MAX:
            notes.append((partition, partition.state, note))

    def answered(outcome: Outcome) -> None:
        if PROBE in outcome and outcome[PROBE] is None:  # else the syncer was killed
            _write(notes, partitions, store)

    if notes:
        try:
            syncer.ask([PROBE], answered)
        except OSError as error:  # the next round tries again
            logger.error("nobody asks the disk before states are written: %s", error.strerror)


def _write(
    notes: Collection[tuple[OpenPartition, PartitionState, CleanEnd]],
    partitions: Collection[OpenPartition],
    store: Callable[[OpenPartition, PartitionState], None],
) -> None:
    """A full disk is tried again. A state that was replaced meanwhile gets its note the next time,
    and a topic that was deleted none."""
    for partition, before, note in notes:
        if partition.state is not before or partition not in partitions:
            continue
        try:
            store(partition, replace(before, durable_end=note))
        except BusError as error:
            logger.error("%s: %s", partition.name, error)
            return
