"""The replica: follows the hot log of one partition and makes it durable.

    wait for the tail ─► copy whole frames, verifying each CRC ─► pwrite ─► fdatasync ─► publish

Guarantees: the high watermark is published only after an fdatasync returned 0 that covers every
record below it. Records that arrive during a sync share the next one (group commit): under load
the disk always has work, and a single record waits for one sync alone.

Under load the disk never waits for the copying: a complete segment is synced by a thread while
the next one is being copied, into a file that gets its name after that sync, at its own first.

The durable log holds only records that verify: see `bus.copier` for those that do not, and for
files that cannot be written. Such a file is given up, and copied anew from the hot ring, which
keeps a segment until its records are published; if that fails too, the replica ends.
"""

import logging
import os
from typing import Final

from bus.copier import CHUNK_BYTES, Copier, FollowerFailedError
from bus.durable import (
    DATA_START,
    list_segments,
    remove_leftovers,
    set_aside,
    was_set_aside,
)
from bus.errors import CorruptRecordError, CorruptSegmentError, DirectoryError
from bus.incidents import Incident
from bus.mirror import Mirror, MirrorError
from bus.native.core import LAYOUT, Scan, parse_header
from bus.pending_sync import PendingSync
from bus.scrub import Newest

logger = logging.getLogger(__name__)

#: Unsynced bytes at which a producer's burst is interrupted by an fdatasync.
SYNC_BYTES_MAX: Final = 32 << 20

__all__ = ["Follower", "FollowerFailedError"]

STATE_RUNNING: Final = LAYOUT["BUS_REPLICA_RUNNING"]
STATE_FAILED: Final = LAYOUT["BUS_REPLICA_FAILED"]


class Follower(Copier):
    """Follows one partition from where its durable log ends. Not thread-safe.

    `source` is the hot log, `dir_fd` the directory of the durable files. The caller holds the
    partition's replica.lock. `is_stopping` is asked where the follower must wait for the disk.
    What it puts right is counted in `incidents`, or else only logged.
    """

    _pending: PendingSync | None = None  # the segment before, complete but not synced
    _rot: tuple[int, str] | None = None  # what a scrub found in the newest file: its number, what

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
        hot = {slot.number: slot.base_offset for slot in self._source.ring() if slot.number}
        try:
            mirror, scan = Mirror.reopen(self._dir_fd, bases[-1])
        except (CorruptSegmentError, DirectoryError, OSError) as error:
            self._replace(bases[-1], hot, str(error))
            return
        published = self._source.high_watermark
        self._number, self._position, self._offset = (
            mirror.number,
            mirror.position,
            scan.next_offset,
        )
        if mirror.number not in hot:
            self._leave(mirror, scan)
            return
        self._mirror = mirror
        if scan.sealed or mirror.is_sealed or scan.next_offset != published:
            self._copy_anew(
                f"it ends at {scan.next_offset}, sealed: {scan.sealed}; published: {published}"
            )
        self._check_published(scan.error)
        self._publish(self._offset, mirror.fsync_ns)

    def _leave(self, mirror: Mirror, scan: Scan) -> None:
        """The newest file's hot segment is gone: the log goes on in the first one that is there.

        If the file is damaged, its readers get the error: there is nothing to repair it from.
        """
        if not scan.sealed:
            self._note(
                Incident.DAMAGE_FOUND,
                "segment %d is damaged at %d, offset %d (%s), and no longer hot",
                mirror.number,
                mirror.position,
                mirror.next_offset,
                scan.error,
            )
        mirror.close()
        self._begin(after=mirror.number, offset=mirror.next_offset if scan.sealed else None)
        self._publish(self._offset, mirror.fsync_ns)

    def _replace(self, base: int, hot: dict[int, int], cause: str) -> None:
        """Sets a file that cannot be read aside; copies it anew if its segment is still hot."""
        name = set_aside(self._dir_fd, base)
        self._note(Incident.FILE_SET_ASIDE, "%s: kept as %s", cause, name)
        numbers = [number for number, offset in hot.items() if offset == base]
        self._begin(after=min(numbers) - 1 if numbers else 0, offset=None)
        if numbers:
            self._copy_anew(cause)
        self._check_published(cause)

    def _check_published(self, cause: str | None) -> None:
        published = self._source.high_watermark
        if self._offset < published:
            raise self._failed(
                f"the durable log ends at offset {self._offset}, but {published} was published:"
                f" {cause or 'frames are missing'}"
            )

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
        header = parse_header(self._source.segment_header(number, offset))
        if header.previous_end != offset and not was_set_aside(self._dir_fd, offset):
            raise FollowerFailedError(
                f"records {offset} to {base_offset} left the hot log before they were copied",
                offset=offset,
                segment=number,
            )

    # ------------------------------------------------------------------------------ following

    @property
    def newest(self) -> Newest:
        """Where it writes; any thread may ask."""
        pending, mirror = self._pending, self._mirror
        if pending is not None:
            return Newest(pending.mirror.number, pending.mirror.base_offset, 0)
        if mirror is None:
            return Newest(self._number, -1, 0)
        return Newest(mirror.number, mirror.base_offset, mirror.synced_position)

    def copy_newest(self, number: int, rot: str) -> None:
        """Asks for a new copy of the newest file; any thread may."""
        self._rot = (number, rot)

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
            self._pass_over(error)
            return True
        except CorruptSegmentError as error:
            raise self._failed(str(error)) from error

    def _commit_what_is_good(self) -> None:
        """Frames before a damaged one verified: they count, if the disk takes them."""
        try:
            self.commit()
        except MirrorError as error:
            logger.error("the records before the damage could not be synced: %s", error)

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
        elif self.commit():
            return True
        else:
            self._look_after_newest()
            return False
        if self._mirror is not None and self._mirror.unsynced >= SYNC_BYTES_MAX:
            self.commit()
        return True

    def _look_after_newest(self) -> None:
        """Once nothing more comes, the file says of itself that it is on disk to its end.

        Raises MirrorError if it is not what was written any more.
        """
        if self._mirror is None:
            return
        rot, self._rot = self._rot, None
        if rot is not None and rot[0] == self._mirror.number:
            raise MirrorError(rot[1])
        self._mirror.look_after()

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
        self._source.begin_sync()
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
            if not mirror.is_sealed:
                mirror.seal(self._header())
            self._source.begin_sync()
            self._pending = PendingSync(mirror)
        if not self._begin(after=self._number, offset=self._offset):
            raise self._failed("the hot segment is sealed but no later one is in the ring")

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

    # ------------------------------------------------------------------------------- failures

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

    def close(self) -> None:
        """Closes the durable file without another sync."""
        if self._pending is not None:
            self._pending.join()
            self._pending.mirror.close()
        if self._mirror is not None:
            self._mirror.close()
        os.close(self._dir_fd)
