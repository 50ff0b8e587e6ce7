"""Records what this process does to the files below one directory, in the order it does it.

The functions of `os` that change files are wrapped for the time of a `with` block. Bytes that
reach a file another way (a buffered writer, a mapping) are found when the file is synced or
renamed: it is compared, page by page, with what is known of it.

Guarantees: an operation is recorded after it has returned, so a cut between two of them is a
moment that this process was in.
"""

import os
import shutil  # noqa: F401 - it compares functions of os when it is loaded: before they are wrapped
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.power.operations import (
    PAGE,
    ZEROS,
    Link,
    MakeDir,
    Mark,
    Operation,
    Rename,
    Resize,
    SyncDir,
    SyncFile,
    Tree,
    Unlink,
    Write,
)

Real = Callable[..., Any]


class Killed(BaseException):
    """Raised instead of an operation: the process that wanted it is dead."""


class Recorder:
    """What happens below `root`. Attributes: `base` (what was there), `tape` (what came then)."""

    def __init__(self, root: Path, *, without: frozenset[str] = frozenset()) -> None:
        """`without` names what does nothing on this disk: "fdatasync", "fsync" or "directory"."""
        self.base = Tree.read(root)
        self.tape: list[Operation] = []
        #: the length of the tape at which the process is killed; None: never
        self.kill_at: int | None = None
        self._without = without
        self._device = root.stat().st_dev
        self._lock = threading.RLock()
        self._directories = set(self.base.names)
        self._sizes = dict(self.base.sizes)
        self._pages = {file: dict(pages) for file, pages in self.base.pages.items()}
        #: open as long as the recorder lives, so that no inode number comes again
        self._held: dict[int, int] = {}
        self._open: Real = os.open
        for number, path in self.base.paths().items():
            self._hold(number, str(root / path))

    def mark(self, what: object) -> None:
        """Something was promised, or came to be, now."""
        with self._lock:
            self.tape.append(Mark(what))

    @contextmanager
    def recording(self) -> Iterator["Recorder"]:
        """The time in which operations are recorded."""
        with ExitStack() as stack:
            for name in _WRAPPED:
                stack.enter_context(patch.object(os, name, self._wrapped(name)))
            yield self

    def close(self) -> None:
        """Let go of all files."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    def _wrapped(self, name: str) -> Real:
        real, recorded = getattr(os, name), _WRAPPED[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if self.kill_at is not None and len(self.tape) >= self.kill_at:
                    raise Killed
                return recorded(self, real, *args, **kwargs)

        return call

    # ------------------------------------------------------------------------------ places

    def _hold(self, number: int, path: str) -> None:
        self._held[number] = self._open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _place(self, path: Any, dir_fd: int | None) -> tuple[int, str] | None:
        """The directory and the name in it; None if that is not below the root."""
        parent, name = os.path.split(os.fspath(path))
        try:
            if parent or dir_fd is None:
                status = os.stat(parent or ".", dir_fd=dir_fd)
            else:
                status = os.fstat(dir_fd)
        except FileNotFoundError:
            return None
        known = status.st_dev == self._device and status.st_ino in self._directories
        return (status.st_ino, name) if known else None

    def _file(self, fd: int) -> int | None:
        status = os.fstat(fd)
        known = status.st_dev == self._device and status.st_ino in self._pages
        return status.st_ino if known else None

    def _number(self, path: Any, dir_fd: int | None) -> int | None:
        try:
            return os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return None

    # ------------------------------------------------------------------------------ contents

    def _note_size(self, file: int, size: int) -> None:
        if size != self._sizes[file]:
            self._sizes[file] = size
            self.tape.append(Resize(file, size))
            pages = self._pages[file]
            for page in [page for page in pages if page * PAGE >= size]:
                del pages[page]

    def _note_pages(self, file: int, start: int, end: int) -> None:
        data = os.pread(self._held[file], end - start, start)
        for at in range(0, len(data), PAGE):
            page, now = (start + at) // PAGE, data[at : at + PAGE].ljust(PAGE, b"\0")
            if now != self._pages[file].get(page, ZEROS):
                self._pages[file][page] = now
                self.tape.append(Write(file, page, now))

    def _catch_up(self, file: int) -> None:
        """What a buffered writer or a mapping did to the file."""
        self._note_size(file, os.fstat(self._held[file]).st_size)
        self._note_pages(file, 0, self._sizes[file])

    # ---------------------------------------------------------------------------- operations

    def open(
        self, real: Real, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        place = self._place(path, dir_fd) if flags & os.O_CREAT else None
        before = self._number(path, dir_fd) if place else None
        fd: int = real(path, flags, mode, dir_fd=dir_fd)
        if place and before is None:
            number = os.fstat(fd).st_ino
            self._hold(number, f"/proc/self/fd/{fd}")
            self._pages[number], self._sizes[number] = {}, 0
            self.tape.append(Link(*place, number))
        elif place and before is not None and flags & os.O_TRUNC:
            self._note_size(before, 0)
        return fd

    def pwrite(self, real: Real, fd: int, data: Any, offset: int) -> int:
        written: int = real(fd, data, offset)
        file = self._file(fd)
        if file is not None:
            start = offset // PAGE * PAGE
            end = -(-(offset + written) // PAGE) * PAGE
            self._note_size(file, os.fstat(fd).st_size)
            self._note_pages(file, start, end)
        return written

    def resize(self, real: Real, fd: int, *numbers: int) -> None:
        """posix_fallocate and ftruncate."""
        real(fd, *numbers)
        file = self._file(fd)
        if file is not None:
            self._note_size(file, os.fstat(fd).st_size)

    def fsync(self, real: Real, fd: int) -> None:
        self._sync(real, fd, "fsync")

    def fdatasync(self, real: Real, fd: int) -> None:
        self._sync(real, fd, "fdatasync")

    def _sync(self, real: Real, fd: int, kind: str) -> None:
        status = os.fstat(fd)
        file = self._file(fd)
        if file is not None:
            self._catch_up(file)
        real(fd)
        if file is not None and kind not in self._without:
            self.tape.append(SyncFile(file))
        known = stat.S_ISDIR(status.st_mode) and status.st_ino in self._directories
        if known and "directory" not in self._without:
            self.tape.append(SyncDir(status.st_ino))

    def rename(
        self,
        real: Real,
        old: Any,
        new: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        source, target = self._place(old, src_dir_fd), self._place(new, dst_dir_fd)
        number = self._number(old, src_dir_fd)
        real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if source is None or target is None or number is None:
            return
        assert source[0] == target[0], f"{old} was moved to another directory, {new}"
        if number in self._pages:
            self._catch_up(number)
        self.tape.append(Rename(*source, target[1], number))

    def link(
        self,
        real: Real,
        old: Any,
        new: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        place, number = self._place(new, dst_dir_fd), self._number(old, src_dir_fd)
        real(
            old,
            new,
            src_dir_fd=src_dir_fd,
            dst_dir_fd=dst_dir_fd,
            follow_symlinks=follow_symlinks,
        )
        if place is not None and number is not None:
            self.tape.append(Link(*place, number))

    def unlink(self, real: Real, path: Any, *, dir_fd: int | None = None) -> None:
        """unlink and rmdir."""
        place = self._place(path, dir_fd)
        real(path, dir_fd=dir_fd)
        if place is not None:
            self.tape.append(Unlink(*place))

    def mkdir(self, real: Real, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = self._place(path, dir_fd)
        real(path, mode, dir_fd=dir_fd)
        if place is not None:
            status = os.stat(path, dir_fd=dir_fd)
            self._directories.add(status.st_ino)
            self._held[status.st_ino] = self._open(path, os.O_RDONLY, dir_fd=dir_fd)
            self.tape += [MakeDir(status.st_ino), Link(*place, status.st_ino)]


#: function of os → how it is recorded
_WRAPPED: dict[str, Real] = {
    "open": Recorder.open,
    "pwrite": Recorder.pwrite,
    "posix_fallocate": Recorder.resize,
    "ftruncate": Recorder.resize,
    "fsync": Recorder.fsync,
    "fdatasync": Recorder.fdatasync,
    "rename": Recorder.rename,
    "link": Recorder.link,
    "unlink": Recorder.unlink,
    "rmdir": Recorder.unlink,
    "mkdir": Recorder.mkdir,
}
