"""The file of a limit in /dev/shm: shared by all who use it, gone with the last of them.

Whoever uses it holds a shared flock on it from the first look to the end, also a worker whose
supervisor is dead: what it runs still counts. Who leaves last removes the file. After a kill of
all, whoever comes next goes on with what it says, or, if that is another limit, removes it
(`sweep`). The lock under which words change is another one: a byte of the file, locked for
microseconds (an open file description lock), which the kernel takes from the dead.
"""

import fcntl
import hashlib
import mmap
import os
import stat
import struct
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from workers.board import PLACE
from workers.errors import LimitError
from workers.limit_layout import MAGIC, WORD_BYTES, Head

_PREFIX: Final = "worker-limit"
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
#: Who makes the file, or looks whether it is used, needs microseconds.
OPEN_WAIT_S: Final = 10.0
#: A file without a magic number that is older was left by somebody who died as he made it.
_MAKING_S: Final = 60.0
#: struct flock of Linux, 64 bit
_FLOCK: Final = struct.Struct("hhqqi4x")


class LimitFile:
    """An open file. Attributes: `path`, `words`."""

    def __init__(self, name: str, size: int, head: Sequence[int]) -> None:
        """Opens the file of the limit of that name, or makes it. `head` is its header.

        Raises LimitError, also if others use a limit of this name that has another header.
        """
        sweep(but=path_of(name))
        self.path = path_of(name)
        self._used_fd = _open_used(self.path, name, size, head)
        # other descriptions: a forked child keeps the mapping's, and must not keep a lock with it
        self._lock_fd = os.open(f"/proc/self/fd/{self._used_fd}", os.O_RDWR | os.O_CLOEXEC)
        fd = os.open(f"/proc/self/fd/{self._used_fd}", os.O_RDWR | os.O_CLOEXEC)
        self.words = memoryview(mmap.mmap(fd, size)).cast("Q")
        os.close(fd)
        _open.add(self)

    def lock(self, wait_s: float) -> bool:
        """Takes the lock; False if somebody was stopped while he had it."""
        deadline_s = 0.0
        while not _try_lock(self._lock_fd, fcntl.F_WRLCK):
            now_s = time.monotonic()
            deadline_s = deadline_s or now_s + wait_s
            if now_s >= deadline_s:
                return False
            time.sleep(0.00005)
        return True

    def unlock(self) -> None:
        """Gives the lock."""
        _try_lock(self._lock_fd, fcntl.F_UNLCK)

    def close(self) -> None:
        """Removes the file if nobody else uses it; what is mapped stays. Idempotent."""
        fd, self._used_fd = self._used_fd, -1
        if fd < 0:
            return
        _open.discard(self)
        if _try_flock(fd, fcntl.LOCK_EX) and _is_named(fd, self.path):
            with suppress(FileNotFoundError):
                os.unlink(self.path)
        os.close(fd)
        os.close(self._lock_fd)

    def after_fork(self) -> None:
        """In a forked child: both locks are the parent's, and must end with it."""
        for name in ("_used_fd", "_lock_fd"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def path_of(name: str) -> Path:
    """The file of the limit of that name."""
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    return PLACE / f"{_PREFIX}-{os.geteuid()}-{digest}"


def paths() -> list[Path]:
    """All files of limits of this user."""
    return sorted(PLACE.glob(f"{_PREFIX}-{os.geteuid()}-*"))


def sweep(but: Path | None = None) -> None:
    """Removes the files of which all users were killed."""
    for path in paths():
        if path == but:
            continue
        try:
            fd = os.open(path, _FLAGS)
        except OSError:
            continue  # another one removed it, or it is not ours to open
        try:
            if _try_flock(fd, fcntl.LOCK_EX) and _is_named(fd, path) and _is_whole_or_old(fd):
                os.unlink(path)
        finally:
            os.close(fd)


# ---------------------------------------------------------------------------------- opening


def _open_used(path: Path, name: str, size: int, head: Sequence[int]) -> int:
    """A descriptor with the shared lock, of a file that is whole and has that header."""
    deadline_s = time.monotonic() + OPEN_WAIT_S
    while time.monotonic() < deadline_s:
        try:
            fd = os.open(path, _FLAGS | os.O_CREAT, 0o600)
        except OSError as error:
            raise LimitError(f"cannot open {path}: {error.strerror}") from error
        try:
            if _use(fd, path, name, size, head):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        time.sleep(0.001)
    raise LimitError(f"{path} is being made, and never done; remove it if nobody uses it")


def _use(fd: int, path: Path, name: str, size: int, head: Sequence[int]) -> bool:
    """Takes part in the use of a file; False if it went meanwhile, or is not whole yet."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise LimitError(f"{path} belongs to another user")
    if _try_flock(fd, fcntl.LOCK_EX) and _is_named(fd, path) and not _says(fd, size, head):
        _make(fd, path, size, head)
    # Changing the lock lets go of it for an instant, in which another one may remove the file, or
    # make another limit of it: so both are looked at once more.
    if not _try_flock(fd, fcntl.LOCK_SH) or not _is_named(fd, path) or not _magic(fd):
        return False
    if not _says(fd, size, head):
        raise LimitError(
            f"others use a limit of the name {name!r} with other numbers; give this one another"
            " name, or end those first"
        )
    return True


def _make(fd: int, path: Path, size: int, head: Sequence[int]) -> None:
    try:
        os.ftruncate(fd, 0)
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.unlink(path)
        raise LimitError(f"cannot make {path}: {error.strerror}") from error
    os.pwrite(fd, struct.pack(f"{len(head)}Q", *head), WORD_BYTES)
    os.pwrite(fd, struct.pack("Q", MAGIC), Head.MAGIC * WORD_BYTES)


def _says(fd: int, size: int, head: Sequence[int]) -> bool:
    if not _magic(fd) or os.fstat(fd).st_size != size:
        return False
    count = len(head)
    return struct.unpack(f"{count}Q", os.pread(fd, count * WORD_BYTES, WORD_BYTES)) == tuple(head)


def _magic(fd: int) -> bool:
    return os.pread(fd, WORD_BYTES, 0) == struct.pack("Q", MAGIC)


def _is_whole_or_old(fd: int) -> bool:
    return _magic(fd) or time.time() - os.fstat(fd).st_mtime > _MAKING_S


def _is_named(fd: int, path: Path) -> bool:
    """True if the name still means this file."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def _try_flock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(how, os.SEEK_SET, 0, 1, 0))
    except BlockingIOError:
        return False
    return True


#: Files that this process uses.
_open: "weakref.WeakSet[LimitFile]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for file in list(_open):
        file.after_fork()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
