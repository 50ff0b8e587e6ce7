"""The replica: follows the hot log of one partition and makes it durable.

    wait for the tail ─► copy whole frames, verifying each CRC ─► pwrite ─► fdatasync ─► publish

Guarantees: the high watermark is published only after an fdatasync returned 0 that covers every
record below it. Records that arrive during a sync share the next one (group commit): under load
the disk always has work, and a single record waits for one sync alone.

Under load the disk never waits for the copying: a complete segment is synced by a thread while
the next one is being copied, into a file that gets its name after that sync, at its own first.

A frame that does not verify ends the replica for good: the durable log holds only records that
verify. A durable file that cannot be written or synced is given up, and copied anew from the hot
ring, which keeps a segment until its records are published; if that fails too, the replica ends.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Final

from bus.durable import DATA_START, list_segments, remove_leftovers, was_set_aside
from bus.errors import (
    CorruptRecordError,
    CorruptSegmentError,
    NoSpaceError,
    ReplicaFailedError,
)
from bus.incidents import Incident, Incidents
from bus.mirror import Mirror, MirrorError
from bus.native.core import LAYOUT, Partition, parse_header
from bus.pending_sync import PendingSync

logger = logging.getLogger(__name__)

#: Bytes copied at a time: large enough for the disk, small enough for the CPU's cache.
CHUNK_BYTES: Final = 1 << 20
#: Unsynced bytes at which a producer's burst is interrupted by an fdatasync.
SYNC_BYTES_MAX: Final = 32 << 20
#: Pause before the next try when the disk of the bus directory is full, in seconds.
NO_SPACE_PAUSE_S: Final = 1.0

STATE_RUNNING: Final = LAYOUT["BUS_REPLICA_RUNNING"]
STATE_FAILED: Final = LAYOUT["BUS_REPLICA_FAILED"]


class FollowerFailedError(ReplicaFailedError):
    """Raised when a replica must not go on: `offset`, `segment` and `position` say where."""

    def __init__(self, reason: str, *, offset: int = -1, segment: int = -1, position: int = -1):
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.segment = segment
        self.position = position


class Follower:
    """Follows one partition from where its durable log ends. Not thread-safe.

    `source` is the hot log, `dir_fd` the directory of the durable files. The caller holds the
    partition's replica.lock. `is_stopping` is asked where the follower must wait for the disk.
    What it puts right is counted in `incidents`, or else only logged.
    """

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
        self._pending: PendingSync | None = None  # the segment before, complete but not synced
        self._number = 0
        self._position = DATA_START
        self._offset = 0
        self._sealed = False  # the end frame of the segment was copied

    @property
    def next_offset(self) -> int:
        """The offset of the next record to copy."""
        return self._offset

    # ------------------------------------------------------------------------------- starting

    def resume(self) -> None:
        """Finds the end of the durable log and goes on behind what can be believed of it.

        What the high watermark covers is on disk. Whatever else stands in the newest file was
        written by a replica that is dead, and its fdatasync may have failed: the pages would
        count as clean then, and one of ours would return 0 without writing them. So such a file
        is never synced and believed, but copied anew from the hot ring, which still has it.
        """
        remove_leftovers(self._dir_fd)
        bases = list_segments(self._dir_fd)
        if not bases:
            self._begin(after=0, offset=None)
            return
        mirror, scan = Mirror.reopen(self._dir_fd, bases[-1])
        published = self._source.high_watermark
        self._number, self._position, self._offset = (
            mirror.number,
            mirror.position,
            scan.next_offset,
        )
        is_hot = mirror.number >= self._oldest_number()
        if is_hot and (scan.sealed or scan.next_offset != published):
            self._mirror = mirror
            self._copy_anew(
                f"it ends at {scan.next_offset}, sealed: {scan.sealed}; published: {published}"
            )
        elif scan.sealed:
            self._turn_from(mirror)
        else:
            self._mirror = mirror
        if self._offset < published:
            raise self._failed(
                f"the durable log ends at offset {self._offset}, but {published} was published:"
                f" {scan.error or 'frames are missing'}"
            )
        self._publish(self._offset, mirror.fsync_ns)

    def _oldest_number(self) -> int:
        """Of the hot ring; older segments were published to their ends, or mended by recovery."""
        return min((slot.number for slot in self._source.ring() if slot.number), default=0)

    def _begin(self, *, after: int, offset: int | None) -> bool:
        """Turns to the first hot segment numbered above `after`; False if there is none yet.

        Numbers may be skipped: a segment that was sealed without a record can be recycled
        before anybody looked at it.
        """
        later = [slot for slot in self._source.ring() if slot.number > after]
        if not later:
            return False
        slot = min(later, key=lambda slot: slot.number)
        if offset is not None and slot.base_offset != offset:
            self._check_gap(slot.number, slot.base_offset, offset)
        self._number, self._position, self._offset = slot.number, DATA_START, slot.base_offset
        self._mirror = None
        self._sealed = False
        return True

    def _check_gap(self, number: int, base_offset: int, offset: int) -> None:
        """A segment may begin above the end of the log only if its header says so.

        Or if recovery had to set aside what stood between, of which it left the file.
        """
        header = parse_header(self._source.segment_header(number))
        if header.previous_end != offset and not was_set_aside(self._dir_fd, offset):
            raise FollowerFailedError(
                f"records {offset} to {base_offset} left the hot log before they were copied",
                offset=offset,
                segment=number,
            )

    # ------------------------------------------------------------------------------ following

    def step(self) -> bool:
        """Copies what is there, or syncs what was copied; False: nothing to do but to wait."""
        try:
            return self._advance()
        except MirrorError as error:
            self._go_back()
            self._copy_anew(str(error))
            return True
        except CorruptRecordError as error:
            self._commit_what_is_good()
            raise self._failed(str(error)) from error
        except CorruptSegmentError as error:
            raise self._failed(str(error)) from error

    def _commit_what_is_good(self) -> None:
        """Frames before a damaged one verified: they count, if the disk takes them."""
        try:
            self.commit()
        except MirrorError as error:
            logger.error("the records before the damage could not be synced: %s", error)

    def _failed(self, reason: str) -> FollowerFailedError:
        return FollowerFailedError(
            reason, offset=self._offset, segment=self._number, position=self._position
        )

    def _advance(self) -> bool:
        if self._sealed:
            self._finish()
            return True
        if self._pending is not None and self._pending.is_done:
            self._settle()
        copied, offset, sealed, need = self._source.copy(
            self._number, self._position, self._buffer, self._offset
        )
        if copied:
            self._store(copied, offset, sealed)
        elif need:
            self._grow_buffer(need)
        else:
            return self.commit()
        if self._mirror is not None and self._mirror.unsynced >= SYNC_BYTES_MAX:
            self.commit()
        return True

    def wait(self, timeout_ms: float) -> bool:
        """Sleeps until there is something to copy; True if there is."""
        if self._source.wait_data(self._number, self._position, timeout_ms):
            return True
        # An idle replica gives back what the last burst took: the mapped ring, a large buffer.
        self._source.release_mappings()
        if len(self._buffer) > CHUNK_BYTES:
            self._grow_buffer(CHUNK_BYTES)
        return False

    def commit(self) -> bool:
        """Syncs and publishes what was copied; False if there was nothing."""
        settled = self._settle()
        mirror = self._mirror
        if mirror is None or not mirror.unsynced:
            return settled
        mirror.sync()
        self._publish(mirror.synced_offset, mirror.fsync_ns)
        return True

    def _store(self, copied: int, offset: int, sealed: bool) -> None:
        mirror = self._mirror
        if mirror is None and not (sealed and offset == self._offset):
            mirror = self._mirror = self._create_mirror()
        if mirror is not None:
            at = mirror.position
            mirror.write(self._view[:copied], offset)
            if copied >= CHUNK_BYTES // 2:  # a lone record is synced at once; no hint is needed
                mirror.start_writeback(at)
        self._position += copied
        self._offset = offset
        self._sealed = sealed

    def _finish(self) -> None:
        """The end frame was copied: seal, have it synced, and turn to the next segment."""
        self._settle()
        mirror = self._mirror
        if mirror is not None:
            mirror.seal(self._source.segment_header(self._number))
            self._pending = PendingSync(mirror)
        if not self._begin(after=self._number, offset=self._offset):
            raise self._failed("the hot segment is sealed but no later one is in the ring")

    def _turn_from(self, mirror: Mirror) -> None:
        """Closes a complete durable file that the ring has let go, and begins the next segment."""
        mirror.close()
        if not self._begin(after=mirror.number, offset=mirror.next_offset):
            raise self._failed("the durable log ends where the hot log has nothing to go on")

    def _settle(self) -> bool:
        """Waits for the segment before, and publishes it.

        False if there was nothing to wait for. Raises MirrorError.
        """
        if self._pending is None:
            return False
        self._pending.wait()
        before, self._pending = self._pending.mirror, None
        # Offsets between two segments were never given out: what is below the next one is safe.
        safe = before.synced_offset if self._mirror is not None else self._offset
        self._publish(safe, before.fsync_ns)
        before.close()
        return True

    def _publish(self, offset: int, fsync_ns: int) -> None:
        self._source.publish_high_watermark(offset, fsync_ns)

    def _grow_buffer(self, size: int) -> None:
        self._view.release()
        self._buffer = bytearray(max(size, CHUNK_BYTES))
        self._view = memoryview(self._buffer)

    # ------------------------------------------------------------------------------- failures

    def _note(self, kind: Incident, text: str, *values: object) -> None:
        if self._incidents is None:
            logger.warning(text, *values)
        else:
            self._incidents.note(kind, text, *values)

    def _go_back(self) -> None:
        """To the segment before, if it is the one that could not be synced: it comes first."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.wait()
        except MirrorError:
            if self._mirror is not None:
                self._mirror.close()  # under its temporary name: copied again later
            self._mirror = failed = pending.mirror
            self._number, self._position = failed.number, failed.position
            self._offset = failed.next_offset
        else:
            self._publish(pending.mirror.synced_offset, pending.mirror.fsync_ns)
            pending.mirror.close()

    def _create_mirror(self) -> Mirror:
        """A new durable file; waits as long as the disk is full, for that is not final."""
        header = self._source.segment_header(self._number)
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
            self._mirror.close()
        self._mirror = mirror = self._create_mirror()
        self._position, self._offset, self._sealed = DATA_START, mirror.base_offset, False
        while self._position < position or self._offset < offset:
            if self._sealed or not self._copy_more(mirror):
                break
        mirror.sync()
        self._publish(mirror.synced_offset, mirror.fsync_ns)

    def _copy_more(self, mirror: Mirror) -> bool:
        copied, offset, sealed, need = self._source.copy(
            self._number, self._position, self._buffer, self._offset
        )
        if need:
            self._grow_buffer(need)
            return True
        mirror.write(self._view[:copied], offset)
        self._position += copied
        self._offset = offset
        self._sealed = sealed
        return copied > 0

    def close(self) -> None:
        """Closes the durable file without another sync."""
        if self._pending is not None:
            self._pending.join()
            self._pending.mirror.close()
        if self._mirror is not None:
            self._mirror.close()
        os.close(self._dir_fd)
