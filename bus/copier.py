"""Copying one hot segment into its durable file, whatever is damaged in either.

    a hot frame does not verify       the same frame of the file that is being replaced, if one is;
                                      else it is lost
    lost records                      a gap frame in their place, and the log goes on at the next
                                      frame that verifies, or behind the segment
    the durable file cannot be        a new one, copied from the hot ring
    written or synced

Lost records were never acknowledged with acks="all". The order tells everybody: the gap is noted in
the control page, where waiting producers look, before the watermark passes it.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from bus.durable import DATA_START
from bus.errors import (
    CorruptRecordError,
    NoSpaceError,
    ReplicaFailedError,
)
from bus.incidents import Incident, Incidents
from bus.mirror import Mirror, MirrorError
from bus.native.core import LAYOUT, Mapping, Partition, gap_frame, scan_segment

logger = logging.getLogger("bus.replica")

#: Bytes copied at a time: large enough for the disk, small enough for the CPU's cache.
CHUNK_BYTES: Final = 1 << 20
#: Pause before the next try when the disk of the bus directory is full, in seconds.
NO_SPACE_PAUSE_S: Final = 1.0
FRAME_BYTES: Final = LAYOUT["sizeof.bus_frame"]


class FollowerFailedError(ReplicaFailedError):
    """Raised when a replica must not go on: `offset`, `segment` and `position` say where."""

    def __init__(self, reason: str, *, offset: int = -1, segment: int = -1, position: int = -1):
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.segment = segment
        self.position = position


class Copier:
    """A place in the hot log, and the durable file that belongs to it. Not thread-safe."""

    def __init__(
        self,
        source: Partition,
        dir_fd: int,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        incidents: Incidents | None = None,
    ) -> None:
        self._incidents = incidents
        self._source = source
        self._dir_fd = dir_fd
        self._is_stopping = is_stopping
        self._buffer = bytearray(CHUNK_BYTES)
        self._view = memoryview(self._buffer)
        self._mirror: Mirror | None = None  # None: no record of the segment was copied yet
        self._old: Mapping | None = None  # the file that is being replaced
        self._number = 0
        self._position = DATA_START
        self._offset = 0
        self._sealed = False  # the end frame of the segment was copied

    @property
    def next_offset(self) -> int:
        """The offset of the next record to copy."""
        return self._offset

    def _publish(self, offset: int, fsync_ns: int) -> None:
        self._source.publish_high_watermark(offset, fsync_ns)

    def _grow_buffer(self, size: int) -> None:
        self._view.release()
        self._buffer = bytearray(max(size, CHUNK_BYTES))
        self._view = memoryview(self._buffer)

    def _note(self, kind: Incident, text: str, *values: object) -> None:
        if self._incidents is None:
            logger.warning(text, *values)
        else:
            self._incidents.note(kind, text, *values)

    def _failed(self, reason: str) -> FollowerFailedError:
        return FollowerFailedError(
            reason, offset=self._offset, segment=self._number, position=self._position
        )

    def _create_mirror(self) -> Mirror:
        """A new durable file; waits as long as the disk is full, for that is not final."""
        header = self._header()
        warned = False
        while True:
            try:
                return Mirror.create(self._dir_fd, header)
            except NoSpaceError as error:
                if self._is_stopping():
                    raise
                if not warned:
                    self._note(Incident.NO_SPACE, "%s", error)
                    warned = True
                time.sleep(NO_SPACE_PAUSE_S)
            except OSError as error:
                raise MirrorError(f"a new durable file: {error.strerror}") from error

    def _copy_anew(self, cause: str) -> None:
        """Replaces the current durable file by a new one, copied from the hot ring.

        Nothing was published from the file that is given up beyond its last good sync, and the
        hot ring keeps the whole segment until all of it is published.
        """
        position, offset = self._position, max(self._offset, self._source.high_watermark)
        for last in (False, True):
            self._note(
                Incident.FILE_COPIED_ANEW,
                "segment %d is copied to a new durable file: %s",
                self._number,
                cause,
            )
            try:
                self._copy_up_to(position, offset)
            except (MirrorError, OSError) as error:
                if last:
                    raise self._failed(
                        f"segment {self._number} could not be copied to a new file: {error};"
                        f" before that: {cause}"
                    ) from error
                cause = f"{error}; before that: {cause}"
            except CorruptRecordError as error:
                raise self._failed(str(error)) from error
            else:
                return

    def _copy_up_to(self, position: int, offset: int) -> None:
        """A new file with all frames below both, synced, in the place of the one that was."""
        if self._mirror is not None:
            self._old = self._mirror.mapped()
            self._mirror.close()
        self._mirror = mirror = self._create_mirror()
        self._position, self._offset, self._sealed = DATA_START, mirror.base_offset, False
        while self._position < position or self._offset < offset:
            if self._sealed or not self._copy_more(mirror):
                break
        self._old = None
        mirror.sync()
        self._publish(mirror.synced_offset, mirror.fsync_ns)

    def _copy_more(self, mirror: Mirror) -> bool:
        try:
            copied, offset, sealed, need = self._source.copy(
                self._number, self._position, self._buffer, self._offset
            )
        except CorruptRecordError as error:
            if not self._copy_old(mirror):
                self._pass_over(error)
            return True
        if need:
            self._grow_buffer(need)
            return True
        mirror.write(self._view[:copied], offset)
        self._position += copied
        self._offset = offset
        self._sealed = sealed
        return copied > 0

    def _copy_old(self, mirror: Mirror) -> bool:
        """Frames that verify in the file that is being replaced are as good as the hot ones."""
        if self._old is None:
            return False
        start, seed = self._position, self._source.seed(self._number)
        scan = scan_segment(self._old, start=start, offset=self._offset, seed=seed)
        if scan.end_position == start:
            return False
        mirror.write(memoryview(self._old)[start : scan.end_position], scan.next_offset)
        self._position, self._offset = scan.end_position, scan.next_offset
        self._note(
            Incident.DAMAGE_REPAIRED,
            "hot segment %d is damaged at %d: its frames up to %d come from the durable file",
            self._number,
            start,
            scan.end_position,
        )
        return True

    def _pass_over(self, cause: CorruptRecordError) -> None:
        """Goes on behind records that are damaged in the hot log and nowhere else to be had.

        A segment that is still being written is left first: whoever appends to what we cannot
        read would go on losing records.
        """
        self._note(Incident.DAMAGE_FOUND, "the hot log is damaged: %s", cause)
        # Not where the damaged frame stands, though it may verify with a later offset: the gap
        # needs room for a frame of its own.
        behind = self._position + FRAME_BYTES
        good = self._source.find_good(self._number, behind, self._offset)
        if good is None and self._source.tail[0] == self._number:
            self._source.roll()
            good = self._source.find_good(self._number, behind, self._offset)
        end, position = self._source.end_of(self._number)
        if good is not None:
            position, end = good
        if end > self._offset:
            self._source.note_lost(self._offset, end)
            self._note(
                Incident.GAP_REPORTED,
                "records %d to %d were damaged before they were durable, and are lost: %s",
                self._offset,
                end - 1,
                cause,
            )
        if self._mirror is None:
            self._mirror = self._create_mirror()
        self._fill_gap(self._mirror, position, end)

    def _fill_gap(self, mirror: Mirror, position: int | None, end: int) -> None:
        """A gap up to `position`, where good frames follow; or to the segment's end (None)."""
        if end > self._offset or position is not None:
            size = FRAME_BYTES if position is None else max(position - self._position, 0)
            frame = gap_frame(size, self._offset, end, self._source.seed(self._number))
            mirror.write(memoryview(frame), end)
            self._position, self._offset = mirror.position, end
        if position is None:
            self._sealed = True
            mirror.seal_here()

    def _header(self) -> bytes:
        return self._source.segment_header(self._number, self._offset)
