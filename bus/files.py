"""Files of the bus, opened safely and replaced atomically, relative to an open directory.

Guarantees: nothing is opened through a symbolic link in its last step; nothing is used that
another user owns, that group or others may write, or that has a second name somewhere; a file
replaced by `write_atomic` is either the old one or the new one, and with `durable` stays so after
a power loss. Every OSError comes out as an error of the bus that names the path and the way out.
"""

import errno
import itertools
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bus.errors import (
    BusError,
    CorruptSegmentError,
    DirectoryError,
    NoSpaceError,
    ReadOnlyDirectoryError,
    UnsafeDirectoryError,
)

#: a JSON file of the bus is a few hundred bytes; a larger one is not ours
JSON_BYTES_MAX: Final = 1 << 20
_TEMPORARY: Final = ".tmp"
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

_numbers = itertools.count()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn any OSError of the block into an error of the bus; `what` names the path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BusError):
            raise
        raise translate(error, what) from error


def translate(error: OSError, what: str) -> BusError:
    """The error of the bus that stands for `error`."""
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(
            f"no space left for {what}; free some or move the bus: {error.strerror}"
        )
    if code == errno.EROFS:
        return ReadOnlyDirectoryError(f"{what} is on a read-only filesystem; choose another place")
    if code in (errno.EACCES, errno.EPERM):
        return ReadOnlyDirectoryError(
            f"{what} may not be opened or changed by uid {os.geteuid()}; check the owner and mode"
            " of it and of the directories above"
        )
    if code == errno.ELOOP:
        return UnsafeDirectoryError(f"{what} is a symbolic link; put a file in its place")
    if code == errno.ENOENT:
        return DirectoryError(f"{what} does not exist")
    if code == errno.ENOTDIR:
        return DirectoryError(f"{what} is not a directory, or a symbolic link to one")
    return DirectoryError(f"{what}: {error.strerror or error}")


def path_of(fd: int) -> str:
    """The path of an open file, for messages."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"<fd {fd}>"


def _what(name: str | Path, dir_fd: int | None) -> str:
    return str(name) if dir_fd is None else os.path.join(path_of(dir_fd), name)


def open_directory(name: str | Path, *, dir_fd: int | None = None, create: bool = False) -> int:
    """A descriptor of a directory that is ours alone to write.

    With `create` it is made (0700) if it is not there. Raises UnsafeDirectoryError if it belongs
    to another user or is writable by group or others, DirectoryError if it cannot be opened.
    """
    what = _what(name, dir_fd)
    with explained(what):
        if create:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=dir_fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=dir_fd)
    return _checked(fd, what, stat.S_ISDIR, "a directory")


def open_directory_if_there(path: Path) -> int | None:
    """As `open_directory`; None if nothing has that name."""
    try:
        return open_directory(path)
    except DirectoryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def make_directory(name: str, *, dir_fd: int) -> None:
    """Make a directory (0700) durably, unless it is there."""
    with explained(_what(name, dir_fd)):
        try:
            os.mkdir(name, 0o700, dir_fd=dir_fd)
        except FileExistsError:
            return
        os.fsync(dir_fd)


def make_path(path: Path) -> None:
    """Make a directory (0700) and all above it that are not there, durably."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for directory in reversed(missing):
        with explained(str(directory)), suppress(FileExistsError):
            directory.mkdir(0o700 if directory == path else 0o777)
        sync_parent(directory)


def sync_parent(path: Path) -> None:
    """Make the name of `path` durable."""
    with explained(str(path.parent)):
        try:
            fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            os.sync()  # a directory that we may pass but not read is synced with everything else
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def open_file(name: str, flags: int = os.O_RDWR, *, dir_fd: int, links_max: int = 1) -> int:
    """A descriptor of a regular file that is ours alone to write; O_CREAT makes it with 0600.

    Raises UnsafeDirectoryError and DirectoryError as `open_directory` does.
    """
    with explained(_what(name, dir_fd)):
        return open_own(name, flags, dir_fd=dir_fd, links_max=links_max)


def open_own(name: str | Path, flags: int, *, dir_fd: int | None = None, links_max: int = 1) -> int:
    """As `open_file`, for callers that tell FileNotFoundError from other OSErrors themselves."""
    # O_NONBLOCK: a FIFO put in the file's place must not hang the open
    more = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(name, flags | more, 0o600, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise translate(error, _what(name, dir_fd)) from error
        raise
    return _checked(fd, _what(name, dir_fd), stat.S_ISREG, "a regular file", links_max)


def _checked(fd: int, what: str, is_kind: Any, kind: str, links_max: int | None = None) -> int:
    try:
        status = os.fstat(fd)
        if not is_kind(status.st_mode):
            raise UnsafeDirectoryError(f"{what} is not {kind}; move it away")
        if status.st_uid != os.geteuid():
            raise UnsafeDirectoryError(
                f"{what} belongs to uid {status.st_uid}, this process runs as {os.geteuid()};"
                " use a directory of your own"
            )
        if status.st_mode & _OTHERS_MAY_WRITE:
            raise UnsafeDirectoryError(
                f"{what} is writable by others (mode {stat.S_IMODE(status.st_mode):04o});"
                f" take that away with: chmod go-w {what}"
            )
        if links_max is not None and status.st_nlink > links_max:
            raise UnsafeDirectoryError(
                f"{what} has {status.st_nlink} names (hard links): who has another one can keep or"
                " change it; put a copy in its place (cp, then mv)"
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def allocate(fd: int, size: int) -> None:
    """Give the file `size` bytes of real storage, all zero where new.

    A sparse file that is mapped kills its writer with SIGBUS on a full disk; this raises
    NoSpaceError instead.
    """
    with explained(f"{path_of(fd)} ({size} bytes)"):
        os.posix_fallocate(fd, 0, size)


def sync_directory(fd: int) -> None:
    """Make the names in a directory durable."""
    with explained(path_of(fd)):
        os.fsync(fd)


def read_bytes(dir_fd: int, name: str, *, links_max: int = 1) -> bytes | None:
    """The whole of a small file, None if there is none."""
    what = _what(name, dir_fd)
    try:
        fd = open_file(name, os.O_RDONLY, dir_fd=dir_fd, links_max=links_max)
    except DirectoryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    with open(fd, "rb") as file, explained(what):
        data = file.read(JSON_BYTES_MAX + 1)
    if len(data) > JSON_BYTES_MAX:
        raise CorruptSegmentError(
            f"{what} is larger than {JSON_BYTES_MAX} bytes: not a file of ours"
        )
    return data


def write_atomic(dir_fd: int, name: str, data: bytes, *, durable: bool = True) -> None:
    """Replace a file as a whole. With `durable`, file and name are on disk at the return."""
    temporary = _write_temporary(dir_fd, name, data, durable=durable)
    with explained(_what(name, dir_fd)):
        try:
            os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except OSError:
            os.unlink(temporary, dir_fd=dir_fd)
            raise
        if durable:
            os.fsync(dir_fd)


def write_new(dir_fd: int, name: str, data: bytes) -> bool:
    """Make a file as a whole and durably, unless it is there: then False, and it is untouched.

    For an instant, or until the next sweep after a death, it has two names: read it accordingly.
    """
    temporary = _write_temporary(dir_fd, name, data, durable=True)
    with explained(_what(name, dir_fd)):
        try:
            os.link(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        except OSError as error:
            os.unlink(temporary, dir_fd=dir_fd)
            if isinstance(error, FileExistsError):
                return False
            raise
        try:
            os.unlink(temporary, dir_fd=dir_fd)
        except OSError:
            os.unlink(name, dir_fd=dir_fd)  # nobody reads a file with two names: then with none
            raise
        os.fsync(dir_fd)
    return True


def _write_temporary(dir_fd: int, name: str, data: bytes, *, durable: bool) -> str:
    temporary = f".{name}.{os.getpid()}-{next(_numbers)}{_TEMPORARY}"
    with explained(_what(name, dir_fd)), suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=dir_fd)  # a dead process with our pid may have left it
    fd = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=dir_fd)
    try:
        with explained(_what(name, dir_fd)), open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(fd)
    except BaseException:
        os.unlink(temporary, dir_fd=dir_fd)
        raise
    return temporary


def settle(dir_fd: int) -> None:
    """Remove what killed writers of a directory left, and make durable what they named.

    A rename that its author did not live to sync is seen by all, and gone after a power loss. The
    caller is the directory's only writer.
    """
    sweep_temporary(dir_fd)
    sync_directory(dir_fd)


def sweep_temporary(dir_fd: int, name_of: str = "") -> None:
    """Remove what killed writers of this directory, or of one file, left. Nobody writes it now."""
    with explained(path_of(dir_fd)):
        for name in os.listdir(dir_fd):
            if name.startswith(f".{name_of}") and name.endswith(_TEMPORARY):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=dir_fd)


def read_json(dir_fd: int, name: str, *, links_max: int = 1) -> dict[str, Any] | None:
    """A JSON object, None if there is no such file; else raises CorruptSegmentError."""
    data = read_bytes(dir_fd, name, links_max=links_max)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:  # the latter: brackets within brackets
        raise CorruptSegmentError(f"{_what(name, dir_fd)} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptSegmentError(f"{_what(name, dir_fd)} holds {type(value).__name__}, no object")
    return value


def write_json(dir_fd: int, name: str, value: dict[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file as a whole, as `write_atomic` does."""
    text = json.dumps(value, indent=1, sort_keys=False) + "\n"
    write_atomic(dir_fd, name, text.encode(), durable=durable)
