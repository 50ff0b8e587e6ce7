"""A board: the file in shared memory that says what each worker of a set is doing.

The supervisor makes it in /dev/shm, fully allocated, and holds a lock on it; workers map it and
write their own block; any process of the same user may read it, without a message. It is removed
at the end, or, after a kill of the supervisor, by the next one that is made: a board whose lock is
free belongs to nobody.
"""

import fcntl
import json
import mmap
import os
import stat
import struct
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from workers.block import Block
from workers.errors import BoardError
from workers.flight_ring import FlightRing
from workers.layout import (
    DESCRIPTION_AT,
    DESCRIPTION_BYTES_MAX,
    MAGIC,
    VERDICT_WORDS,
    VERDICTS_AT_WORD,
    VERDICTS_MAX,
    WORD_BYTES,
    Head,
    Verdict,
    block_words,
    blocks_at_word,
    board_bytes,
    flight_at,
)

PLACE: Final = Path("/dev/shm")
_PREFIX: Final = "workers"
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Board:
    """An open board.

    Attributes: `path`, `description` (JSON values), `blocks`, `words`, `rings` (of the flight
    record: one for each block, or none).
    """

    def __init__(self, path: Path, fd: int) -> None:
        """Private: use `create`, `open`. `fd` may be closed afterwards."""
        #: holds the lock, if this is the maker's; never mapped, for mmap keeps a copy of its own
        #: that would carry the lock into forked children
        self._lock_fd = -1
        self.path = path
        self._map = mmap.mmap(fd, 0)
        self.words = memoryview(self._map).cast("Q")
        if self.words[Head.MAGIC] != MAGIC:
            raise BoardError(f"{path} is no board of workers, or one of another version")
        self.slots = self.words[Head.SLOTS]
        size = block_words(self.slots)
        first = blocks_at_word()
        self.blocks = [
            Block(self.words[first + size * n : first + size * (n + 1)])
            for n in range(self.words[Head.BLOCKS])
        ]
        self.rings = self._rings(self.words[Head.FLIGHT_BYTES])
        length = self.words[Head.DESCRIPTION_BYTES]
        text = self._map[DESCRIPTION_AT : DESCRIPTION_AT + length]
        self.description: dict[str, Any] = json.loads(text)
        self._made_by = 0

    def _rings(self, size: int) -> list[FlightRing]:
        """One for each block; none if no attempts are recorded."""
        if not size:
            return []
        first, whole = flight_at(len(self.blocks), self.slots), memoryview(self._map)
        starts = (first + size * number for number in range(len(self.blocks)))
        return [FlightRing(whole[start : start + size]) for start in starts]

    @classmethod
    def create(
        cls, blocks: int, slots: int, description: Mapping[str, Any], flight_bytes: int = 0
    ) -> Self:
        """Makes a board and locks it; `flight_bytes` are the ring of each block.

        Raises BoardError, also when /dev/shm is full.
        """
        text = json.dumps(description).encode()
        if len(text) > DESCRIPTION_BYTES_MAX:
            raise BoardError(f"a description of {len(text)} bytes is too long for a board")
        sweep()
        path = PLACE / f"{_PREFIX}-{os.geteuid()}-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise BoardError(f"cannot make {path}: {error.strerror}") from error
        try:
            # locked before it has its magic number: a sweep leaves it alone
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.posix_fallocate(fd, 0, board_bytes(blocks, slots, flight_bytes))
            os.pwrite(fd, text, DESCRIPTION_AT)
            os.pwrite(fd, struct.pack("Q", flight_bytes), Head.FLIGHT_BYTES * WORD_BYTES)
            _write_head(fd, blocks, slots, len(text))
            board = cls.open(path)
        except (OSError, OverflowError, BoardError) as error:
            _discard(path, fd)
            raise BoardError(f"cannot make {path}: {error}") from error
        board._lock_fd = fd
        board._made_by = os.getpid()
        _open.add(board)
        return board

    @classmethod
    def private(cls, blocks: int, slots: int, description: Mapping[str, Any]) -> Self:
        """A board that no other process sees, without a file. Raises BoardError."""
        text = json.dumps(description).encode()
        try:
            fd = os.memfd_create(_PREFIX)
        except OSError as error:
            raise BoardError(f"cannot make a board in memory: {error.strerror}") from error
        try:
            os.ftruncate(fd, board_bytes(blocks, slots))
            os.pwrite(fd, text, DESCRIPTION_AT)
            _write_head(fd, blocks, slots, len(text))
            return cls(Path(f"/proc/self/fd/{fd}"), fd)
        finally:
            os.close(fd)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Maps a board that another process made. Raises BoardError."""
        try:
            fd = os.open(path, _FLAGS)
        except OSError as error:
            raise BoardError(f"cannot open {path}: {error.strerror}") from error
        try:
            _check_ours(path, fd)
            return cls(path, fd)
        finally:
            os.close(fd)

    def add(self, word: Head, count: int = 1) -> None:
        """Counts; for the supervisor, who alone writes the header."""
        self.words[word] += count

    def judge(self, where: tuple[int, int, int], kind: int, pid: int, code: int) -> None:
        """Writes what ended the worker that ran a record, (topic, partition, offset).

        For the supervisor.
        """
        serial = self.words[Head.VERDICTS]
        at = _verdict_at(serial)
        self.words[at + Verdict.SERIAL] = 0
        values = (*where, kind, pid, code)
        for word, value in enumerate(values, Verdict.TOPIC):
            self.words[at + word] = value
        self.words[at + Verdict.SERIAL] = serial + 1
        self.words[Head.VERDICTS] = serial + 1

    def verdicts(self, topic: int, partition: int, offset: int) -> list[tuple[int, int, int]]:
        """What ended the workers that ran a record: (kind, pid, code), oldest first."""
        end = self.words[Head.VERDICTS]
        found = []
        for serial in range(max(0, end - VERDICTS_MAX), end):
            at = _verdict_at(serial)
            entry = self.words[at : at + VERDICT_WORDS].tolist()
            if entry[Verdict.SERIAL] == serial + 1 and entry[1:4] == [topic, partition, offset]:
                found.append((entry[Verdict.KIND], entry[Verdict.PID], entry[Verdict.EXIT]))
        return found

    def close(self) -> None:
        """Its maker removes the file, and what is mapped stays readable. Idempotent."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd < 0:
            return
        if self._made_by == os.getpid():
            with suppress(FileNotFoundError):
                os.unlink(self.path)
        _open.discard(self)
        os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_lock_fd", -1) >= 0:
            self.close()

    def after_fork(self) -> None:
        """In a forked child: the lock is the parent's, and must end with it."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


def _verdict_at(serial: int) -> int:
    return VERDICTS_AT_WORD + serial % VERDICTS_MAX * VERDICT_WORDS


def _write_head(fd: int, blocks: int, slots: int, description_bytes: int) -> None:
    values = (MAGIC, blocks, slots, os.getpid(), time.time_ns(), description_bytes)
    assert len(values) - 1 == Head.DESCRIPTION_BYTES
    os.pwrite(fd, struct.pack(f"{len(values)}Q", *values), 0)


def _check_ours(path: Path, fd: int) -> None:
    # /dev/shm is open to all: what another user has put there is not believed
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise BoardError(f"{path} belongs to another user")
    if found.st_size < board_bytes(0, 0):
        raise BoardError(f"{path} is not whole yet")


def _discard(path: Path, fd: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.close(fd)


def paths() -> list[Path]:
    """All files of boards of this user."""
    return sorted(PLACE.glob(f"{_PREFIX}-{os.geteuid()}-*"))


def living() -> Iterator[Board]:
    """The boards of this user whose supervisor lives."""
    for path in paths():
        try:
            board = Board.open(path)
            if _has_keeper(path):
                yield board
        except (BoardError, FileNotFoundError):
            continue  # it went, or is being made, as we looked


def _has_keeper(path: Path) -> bool:
    fd = os.open(path, _FLAGS)
    try:
        return _is_held(fd)
    finally:
        os.close(fd)


def _is_held(fd: int) -> bool:
    """True if another description holds the lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def sweep() -> None:
    """Removes the boards of supervisors that were killed."""
    for path in paths():
        try:
            fd = os.open(path, _FLAGS)
        except OSError:
            continue  # another one removed it, or it is not ours to open
        try:
            # One that is being made has its lock a moment after its name, so it is told by its
            # magic number, which comes after the lock. A maker that died in between leaves an
            # empty file, which goes once it is old.
            if not _is_held(fd) and (_has_magic(fd) or _is_old(fd)):
                with suppress(FileNotFoundError):
                    os.unlink(path)
        finally:
            os.close(fd)


def _has_magic(fd: int) -> bool:
    return int.from_bytes(os.pread(fd, 8, Head.MAGIC * 8), "little") == MAGIC


def _is_old(fd: int) -> bool:
    return time.time() - os.fstat(fd).st_mtime > 60


#: Boards that this process has made and not closed.
_open: weakref.WeakSet[Board] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for board in list(_open):
        board.after_fork()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
