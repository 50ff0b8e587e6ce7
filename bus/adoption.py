"""Whether a hot log that another broker has left can be taken over as it is.

A control page that was written over, at rest or under a dead broker, may still have its head. What
the new broker would do by it is not to be undone: files that no slot of the ring names are swept
away, and with them the records that only they have. So the lock, the ring and its files are looked
at first. What does not hold together is set aside, and what its files hold is copied
(`bus.salvage`, which believes their headers alone).

Clients may go on appending and rolling meanwhile.
"""

import os
from collections.abc import Sequence
from contextlib import suppress

from bus import files, salvage
from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError, LockTimeoutError
from bus.native.core import LAYOUT, RingSlot
from bus.open_partition import OpenPartition
from bus.rings import segment_file_name
from bus.state import STATE_FILE


def check_adoptable(hot_fd: int, bus_id: int, partition: OpenPartition) -> None:
    """Raises CorruptSegmentError that says what is wrong."""
    check_lock(partition)
    number, position = partition.log.tail
    slots = partition.log.ring()
    while (again := (partition.log.tail, partition.log.ring())) != ((number, position), slots):
        (number, position), slots = again
    held = sorted((slot for slot in slots if slot.number), key=lambda slot: slot.number)
    wrong = _wrong_in_ring(held, number, position) or _wrong_in_files(
        hot_fd, bus_id, partition, held
    )
    if not wrong and partition.is_replicated and held[0].base_offset > _durable_end(partition):
        wrong = f"no segment has the records from offset {_durable_end(partition)} on"
    if wrong:
        raise CorruptSegmentError(f"{partition.log.path}: {wrong}")


def settle_state(directory: BusDirectory, partition: OpenPartition) -> None:
    """The state that was read may be one that a dead broker had not synced yet."""
    fd = directory.open_partition(partition.topic.name, partition.number)
    try:
        files.sweep_temporary(fd, STATE_FILE)  # its replica may be writing a report now
        files.sync_directory(fd)
    finally:
        os.close(fd)


def check_lock(partition: OpenPartition) -> None:
    """Raises CorruptSegmentError if nobody will ever have the lock of a partition again.

    It was written over, or says that somebody has it who does not exist: who dies gives it back
    before his number is free.
    """
    with suppress(LockTimeoutError):
        partition.log.spare_wanted()
        return
    if os.path.exists(f"/proc/{partition.log.stuck_tid}"):
        return  # stopped in it, or slow
    try:
        partition.log.spare_wanted()
    except LockTimeoutError as error:
        if not os.path.exists(f"/proc/{partition.log.stuck_tid}"):
            raise CorruptSegmentError(f"the lock of {partition.name} is held by nobody") from error


def _wrong_in_ring(held: Sequence[RingSlot], number: int, position: int) -> str:
    """The tail is in the newest segment; a roller may have prepared the one behind it."""
    settled = [slot for slot in held if slot.number != number + 1]
    if not settled or settled[-1].number != number:
        return f"the tail is in segment {number}, which is not in the ring"
    if not LAYOUT["BUS_DATA_START"] <= position <= settled[-1].bytes:
        return f"the tail is at {position}, which is not in segment {number}"
    return ""


def _wrong_in_files(
    hot_fd: int, bus_id: int, partition: OpenPartition, held: Sequence[RingSlot]
) -> str:
    """A segment whose file is gone is missed aloud; one that is in another file must not be.

    Numbers that are left out are those of segments that a move could not save.
    """
    there = set(os.listdir(hot_fd))
    key = partition.topic.id, partition.number
    gone = set(range(held[0].number, held[-1].number)) - {slot.number for slot in held}
    gone |= {slot.number for slot in held if segment_file_name(*key, slot.serial) not in there}
    for one in salvage.find(hot_fd, bus_id, *key) if gone else ():
        if one.header.number in gone:
            return f"segment {one.header.number} is in {one.name}, of which the ring knows nothing"
    return ""


def _durable_end(partition: OpenPartition) -> int:
    return max(partition.log.high_watermark, partition.state.log_start_offset)
