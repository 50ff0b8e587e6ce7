"""Where a partition goes on when its hot log is gone: after a reboot, or a clean stop.

The durable segments are the truth then. `plan_recovery` decides from plain values; `recover`
looks, decides and acts. Only the newest segment is scanned, because all others were synced to
their ends before a newer one was made (see `bus.durable`): 10 GiB of log cost one segment.

| found in the newest segment      | done                                                       |
|----------------------------------|------------------------------------------------------------|
| no record                        | the file is removed                                        |
| frames up to its end frame       | nothing; the header's seal is written if it is missing     |
| frames, then a torn frame or     | an end frame is written over what does not verify: it was  |
| zeros, never sealed              | never acknowledged, for the watermark follows fdatasync    |
| sealed, but a frame is damaged   | nothing is cut (this is bit rot, not a torn tail): readers |
|                                  | get the error, new records go to a new segment             |
| an unreadable header             | the file is set aside under another name; readers get an   |
|                                  | error for the offsets that it held                         |
| another version of bus wrote it  | nothing: the broker refuses to start                       |

Offsets never repeat: after a clean stop the log goes on where it ended, otherwise at the
reserved `offset_limit`, and the new segment's `previous_end` makes the gap a known one. Acting
twice changes nothing more, so dying in the middle is harmless.
"""

import logging
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from bus.durable import (
    DATA_START,
    list_segments,
    open_dir,
    open_segment,
    remove_leftovers,
    remove_segments,
    segment_name,
    set_aside,
)
from bus.errors import CorruptSegmentError, UnsupportedVersionError
from bus.files import path_of, sweep_temporary
from bus.native.core import LAYOUT, parse_header, scan_segment, seal_segment
from bus.state import CleanEnd, PartitionState, offset_limit_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest durable segment, as its header says and as a scan found it."""

    base_offset: int
    number: int
    previous_end: int
    #: of the header; 0: the segment was never sealed
    header_end_offset: int
    #: where the frames that verify end, and the offset after the last of them
    end_position: int
    next_offset: int
    #: the scan reached the end frame
    sealed: bool
    #: why the scan stopped before it, if something other than zeros stood there
    error: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.next_offset == self.base_offset and not self.is_rotten

    @property
    def is_rotten(self) -> bool:
        """Sealed once, so synced to its end, and damaged since."""
        return self.header_end_offset != 0 and not self.sealed


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What to do to the durable files, and where the new hot log begins."""

    base_offset: int
    previous_end: int
    number: int
    log_start_offset: int
    #: the newest file has no record and goes
    remove_tail: bool = False
    #: the newest file gets an end frame here
    seal_position: int | None = None

    @property
    def state(self) -> PartitionState:
        """The state to store before the new hot log can be seen."""
        return PartitionState(self.log_start_offset, offset_limit_for(self.base_offset))


def plan_recovery(
    state: PartitionState | None, bases: list[int], tail: Tail | None, *, is_cut: bool = False
) -> RecoveryPlan:
    """Decides from the stored state, the base offsets of the durable files and the newest one.

    `is_cut`: a newer file was set aside, so what `tail` proves is not all that there was.
    """
    if state is None:
        state = PartitionState(0, 0, CleanEnd(0, 0) if tail is None else None)
    end, previous_end, number = _end_of(state, tail)
    clean = state.clean_end
    # A clean end above what the files hold is one in a segment without records (or what was lost
    # since was damaged by others); either way no offset from it on was ever given out.
    base = clean.offset if clean and clean.offset >= end else max(state.offset_limit, end)
    remove = tail is not None and tail.is_empty
    kept = bases[:-1] if remove else bases
    return RecoveryPlan(
        base_offset=base,
        # a reader that comes from below an end that nothing leads up to is told what is missing
        previous_end=base if is_cut else previous_end,
        number=number + 1,
        log_start_offset=_log_start(state, kept, base, is_cut),
        remove_tail=remove,
        seal_position=_seal_position(tail),
    )


def _log_start(state: PartitionState, kept: list[int], base: int, is_cut: bool) -> int:
    if kept:
        return max(state.log_start_offset, kept[0])
    return state.log_start_offset if is_cut else base


def _end_of(state: PartitionState, tail: Tail | None) -> tuple[int, int, int]:
    """The log end that the files prove, the end for `previous_end`, and the last number."""
    if tail is None:
        clean = state.clean_end
        end = clean.offset if clean else state.offset_limit
        return end, end, clean.number if clean else 0
    if tail.is_rotten:
        return tail.header_end_offset, tail.header_end_offset, tail.number
    previous_end = tail.previous_end if tail.is_empty else tail.next_offset
    return tail.next_offset, previous_end, tail.number


def _seal_position(tail: Tail | None) -> int | None:
    if tail is None or tail.is_empty or tail.is_rotten:
        return None
    # A replica may have died between the end frame and the seal in the header.
    return None if tail.header_end_offset else tail.end_position


# ------------------------------------------------------------------------------------- acting


def recover(partition_dir: Path, state: PartitionState | None) -> RecoveryPlan:
    """Brings the durable files of a partition in order; nobody else may have them open.

    Raises OSError if the files cannot be read or written, UnsupportedVersionError.
    """
    with open_dir(partition_dir) as dir_fd:
        remove_leftovers(dir_fd)
        sweep_temporary(dir_fd)
        before = list_segments(dir_fd)
        bases, tail = _readable_tail(dir_fd, partition_dir)
        plan = plan_recovery(state, bases, tail, is_cut=bases != before)
        if tail is not None:
            _mend(dir_fd, tail, plan, partition_dir)
    return plan


def _readable_tail(dir_fd: int, partition_dir: Path) -> tuple[list[int], Tail | None]:
    bases = list_segments(dir_fd)
    while bases:
        try:
            return bases, scan_tail(dir_fd, bases[-1])
        except CorruptSegmentError as error:
            name = set_aside(dir_fd, bases.pop())
            logger.error("%s: %s; kept as %s, its records are lost", partition_dir, error, name)
    return bases, None


def scan_tail(dir_fd: int, base_offset: int) -> Tail:
    """Reads and verifies one durable segment.

    Raises CorruptSegmentError for a bad header, UnsupportedVersionError for a foreign one.
    """
    fd = open_segment(dir_fd, base_offset)
    try:
        head = os.pread(fd, DATA_START, 0)
        _check_version(head, path_of(fd))
        header = parse_header(head)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            scan = scan_segment(view)
    finally:
        os.close(fd)
    return Tail(
        base_offset=base_offset,
        number=header.number,
        previous_end=header.previous_end,
        header_end_offset=header.end_offset,
        end_position=scan.end_position,
        next_offset=scan.next_offset,
        sealed=scan.sealed,
        error=scan.error,
    )


def _check_version(head: bytes, path: str) -> None:
    magic, version = (_field(head, name) for name in ("magic", "version"))
    if magic == LAYOUT["BUS_MAGIC_SEGMENT"] and version != LAYOUT["BUS_LAYOUT_VERSION"]:
        raise UnsupportedVersionError(
            f"{path} has layout version {version}, this version of bus uses"
            f" {LAYOUT['BUS_LAYOUT_VERSION']}; use the version that wrote it"
        )


def _field(head: bytes, name: str) -> int:
    at, size = LAYOUT[f"bus_segment.{name}"], 8 if name == "magic" else 4
    return int.from_bytes(head[at : at + size], "little")


def _mend(dir_fd: int, tail: Tail, plan: RecoveryPlan, partition_dir: Path) -> None:
    path = partition_dir / segment_name(tail.base_offset)
    if plan.remove_tail:
        remove_segments(dir_fd, [tail.base_offset])
    elif tail.is_rotten:
        logger.error(
            "%s is damaged at %d (%s); readers will get the error, new records go to a new segment",
            path,
            tail.end_position,
            tail.error,
        )
    elif plan.seal_position is not None:
        logger.info(
            "%s ends at offset %d, position %d (%s)",
            path,
            tail.next_offset,
            plan.seal_position,
            tail.error or "no frame follows",
        )
        fd = open_segment(dir_fd, tail.base_offset, writable=True)
        try:
            seal_segment(fd, plan.seal_position, tail.next_offset)
        finally:
            os.close(fd)
    else:
        _sync_tail(dir_fd, tail)


def _sync_tail(dir_fd: int, tail: Tail) -> None:
    """After a kill, without a reboot, the newest file may be whole in memory alone.

    Its records are about to be shown as durable.
    """
    fd = open_segment(dir_fd, tail.base_offset, writable=True)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
