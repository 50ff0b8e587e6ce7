"""Reads the durable files of a partition again, slowly, and mends what has rotted or is gone.

    every interval: for each file that is complete, and the synced part of the newest
        verifies                        the next file
        damaged or missing, and its     made anew from both copies (`bus.renewal`); the newest file
        segment is still hot            is copied anew by the replica that writes it
        damaged or missing otherwise    told, once; readers get the error for what is missing, and
                                        all that can be read

Only the replica writes durable files, so it scrubs them, too: in a thread that lives for one pass.
All replicas of a bus take turns, by a lock on byte 1 of broker.lock, so the rate is that of the
whole bus; a stopped scrubber stops the scrubbing, and nothing else.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from bus.durable import DATA_START, list_segments, open_segment, segment_name
from bus.errors import BusError, CorruptSegmentError
from bus.incidents import Incident, Incidents
from bus.liveness import lock_byte, unlock_byte
from bus.native.core import Mapping, Partition, RingSlot, SegmentHeader, parse_header
from bus.renewal import Mended, Mender, Old, header_for
from bus.rot import Pace, Stopped, find_rot
from bus.tasks import Task

logger = logging.getLogger(__name__)

#: The byte of broker.lock that is held by whoever reads files again.
SCRUB_BYTE: Final = 1
#: The first pass of a replica begins after this part of the interval.
FIRST_PART: Final = 0.1
#: Pause before another try while another replica of the bus is at it, in seconds.
TURN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ScrubRate:
    """A pass begins every `interval_s`; the whole bus reads `bytes_per_s`, at 0 never."""

    interval_s: float
    bytes_per_s: float


class Newest(NamedTuple):
    """Where the replica writes: nothing of that segment or of later ones is complete on disk."""

    number: int
    #: of its durable file; -1: there is none yet
    base_offset: int
    #: bytes of that file that are on disk
    position: int


class Scrubber:
    """Scrubs one partition from inside its replica process.

    `tick` and `close` are for the replica's thread; a pass has one of its own.
    """

    def __init__(
        self,
        log: Partition,
        dir_fd: int,
        lock_fd: int,
        rate: ScrubRate,
        incidents: Incidents,
        *,
        name: str,
        newest: Callable[[], Newest],
        copy_newest: Callable[[int, str], None],
    ) -> None:
        """`copy_newest(number, cause)` asks the replica to copy its newest file anew."""
        self._log = log
        self._dir_fd = dir_fd
        self._lock_fd = lock_fd
        self._rate = rate
        self._incidents = incidents
        self._name = name
        self._newest = newest
        self._copy_newest = copy_newest
        self._pace = Pace(rate.bytes_per_s)
        self._pass: Task | None = None
        self._due_s = time.monotonic() + rate.interval_s * FIRST_PART
        self._identity = log.seed(0)
        self._told: dict[int, str] = {}  # what cannot be mended is told once

    # ------------------------------------------------------------------------------- passes

    def tick(self) -> None:
        """Begins a pass when one is due, and it is this partition's turn."""
        now = time.monotonic()
        self._give_up_late_pass()
        if now < self._due_s or not self._rate.bytes_per_s:
            return
        is_passing = self._pass is not None and not self._pass.is_done
        if is_passing or not lock_byte(self._lock_fd, SCRUB_BYTE):
            self._due_s = now + min(TURN_S, self._rate.interval_s)
            return
        self._due_s = now + self._rate.interval_s
        self._pass = Task(self._run, f"the scrub of {self._name}")
        self._give_up_late_pass()

    def _give_up_late_pass(self) -> None:
        """One that no thread could begin with."""
        if self._pass is not None and self._pass.is_late and self._pass.cancel():
            self._pass = None
            unlock_byte(self._lock_fd, SCRUB_BYTE)
            logger.warning("%s is not scrubbed for want of a thread", self._name)

    @property
    def due_ms(self) -> float:
        """Until `tick` has something to do."""
        left_s = max(0.0, self._due_s - time.monotonic())
        return left_s * 1000 if self._rate.bytes_per_s else float("inf")

    def close(self) -> None:
        """Ends a pass in the middle; returns when it has ended."""
        self._pace.stop.set()
        if self._pass is not None and not self._pass.cancel():
            self._pass.join()

    def _run(self) -> None:
        try:
            self.run_pass()
        except Stopped:
            logger.debug("the scrub of %s ends with its replica", self._name)
        except (OSError, BusError, MemoryError) as error:
            logger.warning("the scrub of %s ends before its time: %s", self._name, error)
        finally:
            unlock_byte(self._lock_fd, SCRUB_BYTE)

    def run_pass(self) -> None:
        """Looks at every file once. Raises Stopped, OSError, BusError."""
        bases = list_segments(self._dir_fd)
        newest = self._newest()  # looked at afterwards: no file of the list is newer
        for base in bases:
            if newest.base_offset < 0 or base < newest.base_offset:
                self._scrub(base)
        self._scrub_newest(newest)
        self._restore_missing(newest)
        self._tell_missing()

    # ------------------------------------------------------------------------- what is there

    def _rot(self, base: int, synced: int | None = None) -> str | None:
        try:
            return find_rot(self._dir_fd, base, self._log, self._pace, synced=synced)
        except FileNotFoundError:
            return None  # retention took it, or it is missed below

    def _scrub(self, base: int) -> None:
        rot = self._rot(base)
        if rot is None:
            self._told.pop(base, None)
        elif self._told.get(base) != rot:
            self._found(base, rot)
            self._mend(base, rot)

    def _scrub_newest(self, newest: Newest) -> None:
        if newest.base_offset < 0 or not newest.position:
            return
        rot = self._rot(newest.base_offset, newest.position)
        if rot is not None and self._newest().number == newest.number:
            self._found(newest.base_offset, rot)
            self._copy_newest(newest.number, rot)

    def _found(self, base: int, rot: str) -> None:
        """Counts and logs it. CorruptSegmentError: it is the control page."""
        if self._log.seed(0) != self._identity:
            raise CorruptSegmentError("the control page does not say what it said before")
        self._incidents.note(
            Incident.DAMAGE_FOUND, "%s: %s is damaged: %s", self._name, segment_name(base), rot
        )

    def _mend(self, base: int, rot: str) -> None:
        old = self._old(base)
        number = self._number_of(base, old)
        done = None if number is None else self._make_anew(number, base, old)
        if done is None:
            self._tell(base, rot)
        else:
            self._tell_mended(base, done)
            if done.holes:
                self._told[base] = self._rot(base) or ""

    def _make_anew(self, number: int, base: int, old: Old | None) -> Mended | None:
        header = header_for(self._log, number, old, self._end_before(base))
        if header is None or parse_header(header).base_offset != base:
            return None
        return Mender(self._log, self._dir_fd, number, header, old).mend(self._may_publish)

    def _may_publish(self, end_offset: int) -> bool:
        """Not what retention has deleted meanwhile, and nothing when the replica ends."""
        return end_offset > self._log.log_start_offset and not self._pace.stop.is_set()

    def _old(self, base: int) -> Old | None:
        try:
            fd = open_segment(self._dir_fd, base)
        except (OSError, BusError):
            return None  # whatever has its name, it is no file of ours
        try:
            head, size = os.pread(fd, DATA_START, 0), os.fstat(fd).st_size
            facts = self._facts_of(head, base)
            if facts is not None:
                return Old(head, Mapping(fd, facts.bytes))
            return Old(None, Mapping(fd, size)) if size > DATA_START else None
        finally:
            os.close(fd)

    def _header_of(self, base: int) -> SegmentHeader | None:
        old = self._old(base)
        return None if old is None or old.header is None else parse_header(old.header)

    def _facts_of(self, head: bytes, base: int) -> SegmentHeader | None:
        try:
            facts = parse_header(head)
        except CorruptSegmentError:
            return None
        is_ours = facts.base_offset == base and facts.seed == self._log.seed(facts.number)
        return facts if is_ours else None

    def _number_of(self, base: int, old: Old | None) -> int | None:
        if old is not None and old.header is not None:
            return parse_header(old.header).number
        hot = (slot.number for slot in self._sealed_slots() if slot.base_offset == base)
        return next(hot, None)

    def _sealed_slots(self) -> Iterator[RingSlot]:
        """Segments of the hot ring that are complete and hold records."""
        for slot in self._log.ring():
            if slot.number and slot.end_offset > slot.base_offset:
                yield slot

    # ------------------------------------------------------------------------ what is missing

    def _restore_missing(self, newest: Newest) -> None:
        there = set(list_segments(self._dir_fd))
        durable, start = self._log.high_watermark, self._log.log_start_offset
        for slot in self._sealed_slots():
            is_due = slot.number < newest.number and slot.end_offset <= durable
            if not is_due or slot.base_offset in there or slot.end_offset <= start:
                continue
            self._found(slot.base_offset, "it is missing")
            done = self._make_anew(slot.number, slot.base_offset, None)
            if done is not None:
                self._tell_mended(slot.base_offset, done)

    def _tell_missing(self) -> None:
        """Holes between files that no header explains."""
        bases = list_segments(self._dir_fd)
        end: int | None = self._log.log_start_offset
        for base in bases:
            facts = self._header_of(base)
            if facts is None:
                end = None  # that is told already, or it is gone since
                continue
            if end is not None and facts.previous_end > end:
                self._tell(end, f"records {end} to {facts.previous_end - 1} are missing")
            end = facts.end_offset or None

    def _end_before(self, base: int) -> int:
        """Where the records before a segment end, as the file before it says."""
        before = [other for other in list_segments(self._dir_fd) if other < base]
        facts = self._header_of(before[-1]) if before else None
        return base if facts is None else facts.end_offset or base

    # ------------------------------------------------------------------------------- telling

    def _tell(self, base: int, rot: str) -> None:
        if self._told.get(base) == rot:
            return
        self._told[base] = rot
        self._incidents.note(
            Incident.GAP_REPORTED,
            "%s: nothing is left to mend %s from: %s; readers are told what they miss",
            self._name,
            segment_name(base),
            rot,
        )

    def _tell_mended(self, base: int, done: Mended) -> None:
        self._incidents.note(
            Incident.DAMAGE_REPAIRED,
            "%s: %s was made anew, with %d bytes of frames from RAM",
            self._name,
            segment_name(base),
            done.from_hot,
        )
        for hole in done.holes:
            self._incidents.note(
                Incident.GAP_REPORTED,
                "%s: records %d to %d are damaged on disk and in RAM",
                self._name,
                hole.first,
                hole.end - 1,
            )
