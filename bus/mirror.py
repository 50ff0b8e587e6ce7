"""The durable file that a replica is writing: the same bytes at the same positions as the hot one.

    create ──write*──sync──…──write(end frame)──seal──sync──close ──► the next file
             (no name)  (named)

Guarantees: `synced_offset` never exceeds what a successful fdatasync of this very descriptor
covered. A failed fdatasync is final for the file (the kernel marks its pages clean all the same,
and the next fdatasync would lie), so the mirror refuses every later sync.
"""

import os
import time
from typing import Final, Self

from bus.durable import (
    DATA_START,
    IDENTITY_BYTES,
    create_temporary,
    identity_of,
    open_segment,
    publish_temporary,
    segment_name,
)
from bus.errors import BusError
from bus.native.core import (
    Mapping,
    Scan,
    file_named,
    parse_header,
    scan_segment,
    seal_segment,
    sync_range,
)
from bus.synced import write_mark

#: The seal fields follow the identity of the header, on the same page.
_SEAL_END: Final = 192


#: How far a file is on disk is noted in it this often, in seconds, while records arrive.
MARK_S: Final = 0.1


class MirrorError(BusError):
    """Raised when a durable file could not be written or synced: it is given up, copied anew."""


class Mirror:
    """One durable segment file, from its creation (or its rediscovery) to its seal."""

    def __init__(
        self, dir_fd: int, fd: int, number: int, base_offset: int, position: int, offset: int
    ) -> None:
        self._dir_fd = dir_fd
        self._fd = fd
        self._identity = file_named(fd, "")[:2]
        self._is_checked = False  # and nobody has looked after it since
        self._failed = False
        self._named = True
        self._seal = b""
        #: the header says where the segment ends
        self.is_sealed = False
        self._seed = 0
        self._bytes = 0  # of the whole file, from its creation on
        self._marks = 0
        self._marked = DATA_START  # nothing of the file was synced yet
        self._marked_s = time.monotonic()
        self.number = number
        self.base_offset = base_offset
        #: where the next frame goes, and the offset of the record in it
        self.position = position
        self.next_offset = offset
        #: every byte below it, and every offset below it, is on disk
        self.synced_position = position
        self.synced_offset = offset
        #: duration of the last fdatasync, in ns
        self.fsync_ns = 0

    @classmethod
    def create(cls, dir_fd: int, header: bytes) -> Self:
        """A new file for the hot segment with that header, in the place of one given up, if any.

        It has a temporary name until its first sync.
        """
        hot = parse_header(header)
        fd = create_temporary(dir_fd, hot.base_offset, identity_of(header), hot.bytes)
        mirror = cls(dir_fd, fd, hot.number, hot.base_offset, DATA_START, hot.base_offset)
        mirror._named = False
        mirror._seed, mirror._bytes = hot.seed, hot.bytes
        return mirror

    @classmethod
    def reopen(cls, dir_fd: int, base_offset: int) -> tuple[Self, Scan]:
        """The newest file as an earlier replica left it, verified frame by frame, not synced.

        A sync by this process would prove nothing about what another one wrote: the other's may
        have failed, and then the pages count as clean. The caller judges what can be believed;
        the first frame that does not verify, and all after it, will be written again.
        Raises CorruptSegmentError for a header that is damaged.
        """
        fd = open_segment(dir_fd, base_offset, writable=True)
        try:
            identity = parse_header(os.pread(fd, DATA_START, 0))
            _whole(fd, identity.bytes)
            scan = scan_segment(Mapping(fd, identity.bytes))
            mirror = cls(
                dir_fd, fd, identity.number, base_offset, scan.end_position, scan.next_offset
            )
            mirror.is_sealed = identity.end_offset != 0
            mirror._seed, mirror._bytes = identity.seed, identity.bytes
        except BaseException:
            os.close(fd)
            raise
        return mirror, scan

    @property
    def unsynced(self) -> int:
        """Bytes written since the last sync."""
        return self.position - self.synced_position

    def write(self, frames: memoryview, next_offset: int) -> None:
        """Appends whole frames; the record after them has `next_offset`. Raises MirrorError."""
        self._write_at(frames, self.position)
        self.position += len(frames)
        self.next_offset = next_offset

    def _write_at(self, data: memoryview | bytes, at: int) -> None:
        left = memoryview(data)
        try:
            while left:
                written = os.pwrite(self._fd, left, at)
                at += written
                left = left[written:]
        except OSError as error:
            self._failed = True
            raise MirrorError(f"pwrite at {at}: {error.strerror}") from error

    def mapped(self) -> Mapping:
        """Its bytes, which stay readable when the file was closed or replaced."""
        return Mapping(self._fd, self._bytes)

    def check_in_place(self) -> None:
        """Raises MirrorError if somebody deleted, replaced or cut the file.

        What is written to a file without a name is on no disk that anybody will find.
        """
        if not self._named:
            return
        self._is_checked = True
        try:
            *named, size = file_named(self._dir_fd, segment_name(self.base_offset))
        except OSError as error:
            self._failed = True
            raise MirrorError(f"its name is gone: {error.strerror}") from error
        if tuple(named) != self._identity or size < self._bytes:
            self._failed = True
            own_size = os.fstat(self._fd).st_size
            raise MirrorError(f"it was replaced, or cut: it has {own_size} bytes")

    def look_after(self) -> None:
        """When nothing more comes: looks whether it is in place, unless the sync just did, and
        notes how far it is on disk, if that is due. Raises MirrorError."""
        if not self._is_checked:
            self.check_in_place()
        self._is_checked = False
        if self.is_mark_due:
            self.mark_synced()

    def mark_synced(self) -> None:
        """Notes in the file how far it is on disk; the note itself is, with the next sync.

        Recovery tells by it what rotted from what a power loss tore off.
        """
        if self.is_sealed or self._failed or self.synced_position == self._marked:
            return
        try:
            write_mark(self._fd, self._seed, self._marks, self.synced_position, self.synced_offset)
        except OSError as error:
            self._failed = True
            raise MirrorError(f"the mark of what is synced: {error.strerror}") from error
        self._marks += 1
        self._marked = self.synced_position
        self._marked_s = time.monotonic()

    @property
    def is_mark_due(self) -> bool:
        """True when the last note is old enough for another one: it costs a page."""
        return time.monotonic() - self._marked_s >= MARK_S

    def start_writeback(self, position: int) -> None:
        """Asks the disk to begin with the bytes from `position` on, without waiting for it.

        Raises MirrorError: a disk that refuses so early is not asked again by this file.
        """
        try:
            sync_range(self._fd, position, self.position - position)
        except OSError as error:
            self._failed = True
            raise MirrorError(f"writeback at {position}: {error.strerror}") from error

    def sync(self) -> None:
        """Makes all that was written durable, then the seal, and gives a new file its name.

        Raises MirrorError, and then for ever.
        """
        position, offset = self.position, self.next_offset
        if self.is_mark_due:
            self.mark_synced()
        self._make_durable()
        if self._seal:
            self._write_seal()
            self._make_durable()
        self.synced_position, self.synced_offset = position, offset

    def seal(self, header: bytes) -> None:
        """The segment is complete: the next sync writes its index and its seal as well.

        Behind the frames, not with them: after a power loss a seal in front of frames that do not
        verify must mean that they were damaged, and not that they never came to the disk.
        """
        self._seal = header

    def _write_seal(self) -> None:
        header, self._seal = self._seal, b""
        self._write_at(header[_SEAL_END:], _SEAL_END)
        self._write_at(header[IDENTITY_BYTES:_SEAL_END], IDENTITY_BYTES)

    def seal_here(self) -> None:
        """Ends the segment behind the last frame that was written; the caller syncs.

        For a complete segment whose hot file is gone, or damaged. The index stays empty: it is a
        cache.
        """
        try:
            seal_segment(self._fd, self.position, self.next_offset)
        except OSError as error:
            self._failed = True
            raise MirrorError(f"the seal: {error.strerror}") from error
        self.is_sealed = True

    def close(self) -> None:
        """Closes the file; calling it again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _make_durable(self) -> None:
        if self._failed:
            raise MirrorError("the file was given up after an earlier error")
        started = time.monotonic_ns()
        try:
            if self._named:
                os.fdatasync(self._fd)
            else:
                publish_temporary(self._dir_fd, self.base_offset, self._fd)
                self._named = True
        except OSError as error:
            self._failed = True
            raise MirrorError(f"sync: {error.strerror}") from error
        self.check_in_place()
        self.fsync_ns = time.monotonic_ns() - started


def _whole(fd: int, size: int) -> None:
    """Gives a truncated file its length back: what is written into it must have its room."""
    if os.fstat(fd).st_size < size:
        os.posix_fallocate(fd, 0, size)
