"""A disk that remembers the order of things: one file in a FUSE filesystem that logs every write.

    DIR/disk        the disk; a loop device on it carries a real filesystem
    failing         while this file is there, every write fails with EIO
    hanging         while this file is there, no write or flush is answered
    log             for each write and flush: kind, position, length, bytes; in the order they came

The server speaks the kernel's protocol itself (linux/fuse.h, 7.31), so that no library is needed.
It logs a request before it answers it: whatever the kernel believes to be done is in the log.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.waiting import eventually

#: A disk that was told to hang answers after that time all the same, in seconds: who waits for it
#: can neither be killed nor reach its own deadline.
HANG_S_MAX: Final = 100.0
#: How long the last user of the disk may take to go, in seconds.
END_S: Final = 30.0
NAME = b"disk"
#: What `mount` shows as the source, so that leftovers can be told.
SOURCE = b"bus-power"
ROOT, FILE = 1, 2
WRITE_BYTES_MAX = 1 << 17

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_INIT = struct.Struct("<IIIIHHIIHHI28x")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_IO = struct.Struct("<QQIIQII")
_LOG = struct.Struct("<BQI")
_BIG_WRITES = 1 << 5
_LOOKUP, _GETATTR, _OPEN, _READ, _WRITE, _STATFS = 1, 3, 14, 15, 16, 17
_FSYNC, _INIT_OP, _DESTROY = 20, 26, 38
_FORGETS = (2, 42, 36)
_FINE = (18, 25, 27, 29)


class Request(NamedTuple):
    """A write with its bytes, or a flush, whose bytes are None."""

    position: int
    data: bytes | None
    #: length of the log when it had come in
    end: int


class Server:
    """Answers the kernel until the filesystem is unmounted."""

    def __init__(self, fd: int, disk: bytearray, log_fd: int, place: Path) -> None:
        self._failing, self._hanging = place / "failing", place / "hanging"
        self._owner = os.getppid()
        self._fd = fd
        self._disk = disk
        self._log_fd = log_fd

    def run(self) -> None:
        while True:
            try:
                message = os.read(self._fd, WRITE_BYTES_MAX + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                raise
            _, kind, unique, node, *_ = _IN.unpack_from(message)
            if kind == _DESTROY:
                return
            if kind in (_WRITE, _FSYNC):
                self._hang()
            if kind not in _FORGETS:
                code, answer = self._answer(kind, node, memoryview(message)[_IN.size :])
                os.write(self._fd, _OUT.pack(_OUT.size + len(answer), -code, unique) + answer)

    def _hang(self) -> None:
        """Who waits for an answer cannot be killed, so it comes when the test is gone or late."""
        until = time.monotonic() + HANG_S_MAX
        while self._hanging.exists() and os.getppid() == self._owner:
            if time.monotonic() > until:
                return
            time.sleep(0.005)

    def _answer(self, kind: int, node: int, body: memoryview) -> tuple[int, bytes]:
        if kind == _INIT_OP:
            return 0, _INIT.pack(7, 31, 1 << 17, _BIG_WRITES, 12, 9, WRITE_BYTES_MAX, 1, 0, 0, 0)
        if kind == _LOOKUP:
            if bytes(body).rstrip(b"\0") != NAME:
                return errno.ENOENT, b""
            return 0, struct.pack("<QQQQII", FILE, 0, 3600, 3600, 0, 0) + self._attr(FILE)
        if kind == _GETATTR:
            return 0, struct.pack("<QII", 3600, 0, 0) + self._attr(node)
        if kind == _OPEN:
            return 0, bytes(16)
        if kind == _READ:
            _, at, size, *_ = _IO.unpack_from(body)
            return 0, bytes(self._disk[at : at + size])
        if kind == _WRITE and self._failing.exists():
            return errno.EIO, b""
        if kind == _WRITE:
            _, at, size, *_ = _IO.unpack_from(body)
            data = bytes(body[_IO.size : _IO.size + size])
            self._log(0, at, data)
            self._disk[at : at + size] = data
            return 0, struct.pack("<II", size, 0)
        if kind == _FSYNC:
            self._log(1, 0, b"")
            return 0, b""
        if kind == _STATFS:
            return 0, struct.pack("<QQQQQIIII24x", 0, 0, 0, 2, 0, 4096, 255, 4096, 0)
        return (0, bytes(16)) if kind in _FINE[2:] else (0 if kind in _FINE else errno.ENOSYS, b"")

    def _log(self, kind: int, at: int, data: bytes) -> None:
        os.write(self._log_fd, _LOG.pack(kind, at, len(data)) + data)

    def _attr(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o700 if node == ROOT else stat.S_IFREG | 0o600
        size = 0 if node == ROOT else len(self._disk)
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def read_log(path: Path) -> list[Request]:
    """All that the disk was asked to do, in order."""
    data, at, requests = path.read_bytes(), 0, []
    while at < len(data):
        kind, position, size = _LOG.unpack_from(data, at)
        at += _LOG.size + size
        requests.append(Request(position, None if kind else data[at - size : at], at))
    return requests


@contextmanager
def logged_disk(place: Path, image: bytes) -> Iterator[tuple[Path, Path]]:
    """The file that is a disk with these bytes, and its log; unmounted at the end of the block."""
    mount, log = place / "fuse", place / "log"
    mount.mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(SOURCE, bytes(mount), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), "mount of a fuse filesystem; run tests as root")
    try:
        pid = os.fork()  # only now: before the mount there is nothing to read, which is an error
        if pid == 0:
            _serve(Server(fd, bytearray(image), log_fd, place))
        os.close(log_fd)
        os.close(fd)
        yield mount / NAME.decode(), log
    finally:
        libc.umount2(bytes(mount), 2)  # MNT_DETACH: the server ends with the last user
        _end(pid)


def _serve(server: Server) -> None:
    """Does not return."""
    code = 1
    try:
        server.run()
        code = 0
    except BaseException:  # noqa: BLE001 - as an interpreter ends: it must not run on into ours
        traceback.print_exc()
    finally:
        os._exit(code)


def _end(pid: int) -> None:
    """Waits for the end of the server; when it dies, everybody who still waits gets an error."""
    try:
        eventually(lambda: os.waitpid(pid, os.WNOHANG)[0], END_S, "the last user of the disk goes")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
