"""Where a partition goes on when its hot log is gone: after a reboot, or a clean stop.

The durable segments are the truth then. `plan_recovery` decides from plain values; `recover`
looks, decides and acts. Only the newest segment is scanned, because all others were synced to
their ends before a newer one was made (see `bus.durable`): 10 GiB of log cost one segment.

| found in the newest segment      | done                                                       |
|----------------------------------|------------------------------------------------------------|
| no record                        | the file is removed                                        |
| frames up to its end frame       | nothing; the header's seal is written if it is missing     |
| frames, then a torn frame or     | an end frame is written over what does not verify: it was  |
| zeros, never sealed, not synced  | never acknowledged, for the watermark follows fdatasync    |
| a frame is damaged that had been | nothing is cut (this is bit rot, not a torn tail): readers |
| synced (the seal, the mark of    | get the error, and what follows it; the segment is ended   |
| bus.synced or the clean end says | behind the last good frame, new records go to a new one    |
| so)                              |                                                            |
| an unreadable header             | the file is set aside under another name; readers get an   |
|                                  | error for the offsets that it held                         |
| another version of bus wrote it  | nothing: the broker refuses to start                       |

Offsets never repeat: after a clean stop the log goes on where it ended, otherwise at the
reserved `offset_limit`, and the new segment's `previous_end` makes the gap a known one. Acting
twice changes nothing more, so dying in the middle is harmless.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bus.durable import (
    DATA_START,
    good_runs,
    list_segments,
    open_dir,
    open_segment,
    read_header,
    remove_leftovers,
    remove_segments,
    segment_name,
    set_aside,
)
from bus.errors import CorruptSegmentError, UnsafeDirectoryError, UnsupportedVersionError
from bus.files import path_of, sweep_temporary
from bus.native.core import (
    LAYOUT,
    Mapping,
    parse_header,
    seal_segment,
)
from bus.state import OFFSET_STEP, CleanEnd, PartitionState, offset_limit_for
from bus.synced import Synced, read_mark

logger = logging.getLogger(__name__)

FRAME_BYTES: Final = LAYOUT["sizeof.bus_frame"]


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
    #: below this offset all records had been synced, says the file itself
    synced_offset: int = 0
    #: where the last good frames end, those behind damage included, and the offset after them
    kept_position: int = 0
    kept_offset: int = 0

    def proven_end(self, clean: CleanEnd | None) -> int:
        """All records below it had been on disk."""
        stopped = 0
        if clean is not None and (clean.number == self.number or _holds_records(clean)):
            stopped = clean.offset
        return max(self.header_end_offset, self.synced_offset, stopped)

    def is_rotten(self, clean: CleanEnd | None) -> bool:
        """Damaged where it had been synced: bit rot, which a power loss does not explain."""
        was_sealed = self.header_end_offset != 0 and not self.sealed
        return was_sealed or self.next_offset < self.proven_end(clean)

    def is_empty(self, clean: CleanEnd | None) -> bool:
        return self.next_offset == self.base_offset and not self.is_rotten(clean)


def _holds_records(clean: CleanEnd) -> bool:
    """A clean end that no gap explains: offsets are skipped up to a whole step only."""
    return clean.offset % OFFSET_STEP != 0


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What to do to the durable files, and where the new hot log begins."""

    base_offset: int
    previous_end: int
    number: int
    log_start_offset: int
    #: the newest file has no record and goes
    remove_tail: bool = False
    #: the newest file gets an end frame here, that gives this offset as its end
    seal_position: int | None = None
    seal_offset: int = 0
    #: what is damaged in it had been on disk
    is_rotten: bool = False
    #: what the state said: it goes on saying so
    durable_end: CleanEnd | None = None

    @property
    def state(self) -> PartitionState:
        """The state to store before the new hot log can be seen."""
        limit = offset_limit_for(self.base_offset)
        return PartitionState(self.log_start_offset, limit, durable_end=self.durable_end)


def plan_recovery(
    state: PartitionState | None,
    bases: list[int],
    tail: Tail | None,
    *,
    before_first: int = 0,
    is_cut: bool = False,
) -> RecoveryPlan:
    """Decides from the stored state, the base offsets of the durable files and the newest one.

    `before_first`: where the log ended before the oldest file, as that file says. `is_cut`: a newer
    file was set aside, so what `tail` proves is not all that there was.
    """
    if state is None:
        state = PartitionState(0, 0, CleanEnd(0, 0) if tail is None else None)
    end, previous_end, number = _end_of(state, tail)
    clean, witness = state.clean_end, state.witness
    # A clean end above what the files hold is one in a segment without records (or what was lost
    # since was damaged by others); either way no offset from it on was ever given out.
    base = clean.offset if clean and clean.offset >= end else max(state.offset_limit, end)
    remove = tail is not None and tail.is_empty(witness)
    kept = bases[:-1] if remove else bases
    return RecoveryPlan(
        base_offset=base,
        # a reader that comes from below an end that nothing leads up to is told what is missing
        previous_end=base if is_cut else previous_end,
        number=number + 1,
        log_start_offset=_log_start(state, kept, base, before_first, is_cut=is_cut),
        remove_tail=remove,
        durable_end=state.durable_end,
        **_seal(tail, witness),
    )


def _log_start(
    state: PartitionState, kept: list[int], base: int, before_first: int, *, is_cut: bool
) -> int:
    if kept:
        # Retention stores the log start before it removes a file: above it, one was lost, and
        # readers are to be told of it.
        is_lost = before_first > state.log_start_offset
        return state.log_start_offset if is_lost else max(state.log_start_offset, kept[0])
    witness = state.witness
    # Every record that had been on disk, and that retention had left, must be in some file.
    is_short = witness and _holds_records(witness) and state.log_start_offset < witness.offset
    return state.log_start_offset if is_cut or is_short else base


def _end_of(state: PartitionState, tail: Tail | None) -> tuple[int, int, int]:
    """The log end that the files prove, the end for `previous_end`, and the last number."""
    if tail is None:
        clean = state.clean_end
        end = clean.offset if clean else state.offset_limit
        return end, end, clean.number if clean else 0
    if tail.is_rotten(state.witness):
        end = max(tail.proven_end(state.witness), tail.kept_offset)
        return end, end, tail.number
    previous_end = tail.previous_end if tail.is_empty(state.witness) else tail.next_offset
    return tail.next_offset, previous_end, tail.number


def _seal(tail: Tail | None, clean: CleanEnd | None) -> dict[str, Any]:
    if tail is None or tail.is_empty(clean):
        return {}
    if tail.header_end_offset:
        return {"is_rotten": tail.is_rotten(clean)}
    if tail.is_rotten(clean):
        end = max(tail.proven_end(clean), tail.kept_offset)
        return {"seal_position": tail.kept_position, "seal_offset": end, "is_rotten": True}
    # A replica may have died between the end frame and the seal in the header.
    return {"seal_position": tail.end_position, "seal_offset": tail.next_offset}


# ------------------------------------------------------------------------------------- acting


def recover(partition_dir: Path, state: PartitionState | None) -> RecoveryPlan:
    """Brings the durable files of a partition in order; nobody else may have them open.

    Raises OSError if the files cannot be read or written, UnsupportedVersionError.
    """
    with open_dir(partition_dir) as dir_fd:
        remove_leftovers(dir_fd)
        sweep_temporary(dir_fd)
        before = list_segments(dir_fd)
        bases, tail = _readable_tail(dir_fd, partition_dir, state.witness if state else None)
        first = _before_first(dir_fd, bases)
        plan = plan_recovery(state, bases, tail, before_first=first, is_cut=bases != before)
        if tail is not None:
            _mend(dir_fd, tail, plan, partition_dir)
    return plan


def _before_first(dir_fd: int, bases: list[int]) -> int:
    """0 if the oldest file does not say where the log ended before it."""
    if not bases:
        return 0
    try:
        return read_header(dir_fd, bases[0]).previous_end
    except (CorruptSegmentError, UnsafeDirectoryError, IsADirectoryError):
        return 0


def _readable_tail(
    dir_fd: int, partition_dir: Path, clean: CleanEnd | None
) -> tuple[list[int], Tail | None]:
    bases = list_segments(dir_fd)
    while bases:
        try:
            return bases, scan_tail(dir_fd, bases[-1], clean)
        except (CorruptSegmentError, UnsafeDirectoryError, IsADirectoryError) as error:
            name = set_aside(dir_fd, bases.pop())
            logger.error("%s: %s; kept as %s, its records are lost", partition_dir, error, name)
    return bases, None


def scan_tail(dir_fd: int, base_offset: int, clean: CleanEnd | None = None) -> Tail:
    """Reads and verifies one durable segment.

    Raises CorruptSegmentError for a bad header, UnsupportedVersionError for a foreign one.
    """
    fd = open_segment(dir_fd, base_offset)
    try:
        head = os.pread(fd, DATA_START, 0)
        _check_version(head, path_of(fd))
        header = parse_header(head)
        if os.fstat(fd).st_size <= DATA_START:
            raise CorruptSegmentError(f"{path_of(fd)} was cut: it has no frame")
        mapping = Mapping(fd, header.bytes)  # what was cut off reads as zeros
    finally:
        os.close(fd)
    runs = good_runs(mapping, offset=header.base_offset, seed=header.seed)
    scan = kept = next(runs)
    mark = read_mark(head, header.seed) or Synced(0, 0)
    stopped = clean is not None and clean.number == header.number  # then all was synced
    synced = len(mapping) if stopped else mark.position
    while kept.end_position < synced and (further := next(runs, None)) is not None:
        kept = further
    return Tail(
        base_offset=base_offset,
        number=header.number,
        previous_end=header.previous_end,
        header_end_offset=header.end_offset,
        end_position=scan.end_position,
        next_offset=scan.next_offset,
        sealed=scan.sealed,
        error=scan.error,
        synced_offset=mark.offset,
        kept_position=kept.end_position,
        kept_offset=kept.next_offset,
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
        return
    if plan.is_rotten:
        logger.error(
            "%s is damaged at %d (%s), where it had been synced: nothing is cut, readers get the"
            " error, new records go to a new segment",
            path,
            tail.end_position,
            tail.error or "frames are missing",
        )
    if plan.seal_position is not None:
        logger.info(
            "%s ends at offset %d, position %d (%s)",
            path,
            plan.seal_offset,
            plan.seal_position,
            tail.error or "no frame follows",
        )
        fd = open_segment(dir_fd, tail.base_offset, writable=True)
        try:
            os.posix_fallocate(fd, 0, plan.seal_position + FRAME_BYTES)  # it may have been cut
            seal_segment(fd, plan.seal_position, plan.seal_offset)
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
