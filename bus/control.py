"""The control socket: JSON lines between a client and the broker.

    request  {"op": "topic", "id": 7, "args": {"name": "t", "create": true}}   id 0: no reply wanted
    reply    {"id": 7, "result": {…}}   or   {"id": 7, "error": "InvalidTopicError", "message": "…"}

Records never travel here: attaching, topics, groups and status do. A request line has at most
`REQUEST_BYTES_MAX` bytes, a reply line `REPLY_BYTES_MAX`; a peer that sends more, or no JSON, or
belongs to another user, is cut off.
"""

import errno
import json
import logging
import os
import socket
import stat
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from bus import files
from bus.directory import BROKER_SOCKET, BusDirectory
from bus.errors import (
    BrokerNotRunningError,
    BusError,
    BusTimeoutError,
    MessageSizeTooLargeError,
    UnsafeDirectoryError,
    error_named,
)
from bus.forks import drop_in_child

REQUEST_BYTES_MAX: Final = 1 << 20
#: the status of a full bus: 1024 clients and some thousand partitions at about 300 bytes
REPLY_BYTES_MAX: Final = 16 << 20
#: replies that a client has not taken yet; one that takes none is cut off
UNSENT_BYTES_MAX: Final = 2 * REPLY_BYTES_MAX
BACKLOG: Final = 1024
#: Pause after a client could not be taken for want of descriptors or memory, in seconds.
ACCEPT_PAUSE_S: Final = 0.05
_SHORT_OF: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_READ_BYTES: Final = 1 << 16
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid

log = logging.getLogger(__name__)


class ReplyLostError(BrokerNotRunningError):
    """Raised when the connection broke after the request was sent: it may have been done."""


def _line(message: dict[str, Any], limit: int) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(data) > limit:
        raise MessageSizeTooLargeError(
            f"a message of {len(data)} bytes does not fit the control socket ({limit}); ask for"
            " fewer topics at once"
        )
    return data


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end, from the kernel."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


# ------------------------------------------------------------------------------------- client


class ControlClient:
    """A connection to the broker of a directory. Calls from several threads take turns."""

    def __init__(self, directory: BusDirectory, *, timeout_s: float = 30.0) -> None:
        """Connect. Raises BrokerNotRunningError if nobody listens."""
        self._path = directory.path
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._unread = bytearray()
        self._last_id = 0
        self._broker_pid = 0
        self._socket = self._connect(directory)
        drop_in_child(self)

    def _connect(self, directory: BusDirectory) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self._timeout_s)
            sock.connect(directory.socket_path)
            self._broker_pid, uid = _peer(sock)
            if uid != os.geteuid():
                raise UnsafeDirectoryError(f"the broker in {self._path} runs as another uid: {uid}")
        except OSError as error:
            sock.close()
            raise self._gone(f"nobody answers ({error.strerror or error})") from error
        except BaseException:
            sock.close()
            raise
        return sock

    def _gone(self, why: str) -> BrokerNotRunningError:
        return BrokerNotRunningError(
            f"no broker is running in {self._path}: {why}; start one with: bus serve {self._path}"
        )

    def _broker(self) -> str:
        from bus.holder import if_stopped  # here: it is not needed as long as all goes well

        pid = self._broker_pid
        return f"the broker in {self._path} (pid {pid}){if_stopped(pid)}"

    def _reply_lost(self, op: str, why: str) -> ReplyLostError:
        self.close()
        return ReplyLostError(
            f"the broker in {self._path} {why} before it answered {op!r}; look whether it was done"
        )

    def fileno(self) -> int:
        """Descriptor of the socket, -1 when closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection; the broker then looks whether this client is dead. Idempotent."""
        self._socket.close()

    def after_fork(self) -> None:
        """In a forked child: the connection stays the parent's."""
        self._lock = threading.Lock()  # a thread that is not here any more may have held it
        self._socket.close()

    def send(self, op: str, /, **args: Any) -> bool:
        """Ask for something without waiting for it, not even for a broker that is stopped.

        False if so many requests wait for it already that no more fit: this one is not sent.
        Raises BrokerNotRunningError.
        """
        data = _line({"op": op, "id": 0, "args": args}, REQUEST_BYTES_MAX)
        with self._lock:
            try:
                self._socket.setblocking(False)
                sent = self._socket.send(data)
            except BlockingIOError:
                return False
            except OSError as error:
                self.close()
                raise self._gone(f"the connection is lost ({error.strerror or error})") from error
            if sent < len(data):
                self._write(data[sent:])
        return True

    def call(
        self, op: str, /, *, call_timeout_s: float | None = None, **args: Any
    ) -> dict[str, Any]:
        """Ask and wait for the answer.

        Raises what the broker raised, BrokerNotRunningError if nobody took the request,
        ReplyLostError if the connection broke then, BusTimeoutError if no answer came in time.
        """
        timeout_s = self._timeout_s if call_timeout_s is None else call_timeout_s
        with self._lock:
            self._last_id += 1
            number = self._last_id
            self._write(_line({"op": op, "id": number, "args": args}, REQUEST_BYTES_MAX))
            reply = self._reply(number, op, time.monotonic() + timeout_s)
        if "error" in reply:
            raise error_named(str(reply["error"]), str(reply.get("message", "")))
        result = reply.get("result")
        return result if isinstance(result, dict) else {}

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except TimeoutError as error:
            self.close()  # half a line may be out: nothing can follow it
            raise BusTimeoutError(f"{self._broker()} takes no requests") from error
        except OSError as error:
            self.close()
            raise self._gone(f"the connection is lost ({error.strerror or error})") from error
        except BaseException:  # Ctrl-C: half a line may be out here too
            self.close()
            raise

    def _reply(self, number: int, op: str, deadline: float) -> dict[str, Any]:
        while True:
            reply = self._next_line(op, deadline)
            # a smaller id answers a call that was given up, by a timeout or Ctrl-C
            if reply.get("id") == number:
                return reply

    def _next_line(self, op: str, deadline: float) -> dict[str, Any]:
        searched = 0
        while (end := self._unread.find(b"\n", searched)) < 0:
            searched = len(self._unread)
            if searched > REPLY_BYTES_MAX:
                raise self._reply_lost(op, "sent a line that is too long")
            self._unread += self._read_some(op, deadline)
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._reply_lost(op, "sent something that is not JSON") from error
        return reply if isinstance(reply, dict) else {}

    def _read_some(self, op: str, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError as error:
            raise BusTimeoutError(
                f"{self._broker()} did not answer {op!r} in time; see its log"
            ) from error
        except OSError as error:
            raise self._reply_lost(op, f"was lost ({error.strerror or error})") from error
        if not data:
            raise self._reply_lost(op, "closed the connection")
        return data


# ------------------------------------------------------------------------------------- server


def listen(directory: BusDirectory) -> socket.socket:
    """The broker's listening socket, non-blocking. The caller holds broker.lock."""
    with files.explained(str(directory.path / BROKER_SOCKET)):
        with suppress(FileNotFoundError):
            # left by a broker that was killed: the lock says that nobody listens there
            os.unlink(BROKER_SOCKET, dir_fd=directory.fd)
        flags = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_UNIX, flags)
        try:
            sock.bind(directory.socket_path)
            os.chmod(BROKER_SOCKET, stat.S_IRUSR | stat.S_IWUSR, dir_fd=directory.fd)
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
    return sock


@dataclass(frozen=True)
class Request:
    """One request of a client; `id` 0 means that it wants no reply."""

    op: str
    id: int
    args: dict[str, Any]


class Connection:
    """The broker's end of one client's connection. Never blocks.

    Attributes: `pid` of the client (from the kernel), `closed`.
    """

    def __init__(self, sock: socket.socket, pid: int) -> None:
        sock.setblocking(False)
        self.pid = pid
        self.closed = False
        self._socket = sock
        self._unread = bytearray()
        self._searched = 0  # bytes of it that hold no end of a line
        self._unsent = bytearray()

    @classmethod
    def accept(cls, listener: socket.socket) -> "Connection | None":
        """The next client's connection; None if nobody waits, or somebody whom we do not serve."""
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno not in _SHORT_OF:
                raise
            log.error("cannot take another client: %s; raise `ulimit -n`", error.strerror)
            time.sleep(ACCEPT_PAUSE_S)  # the client still waits: without it this would be a spin
            return None
        pid, uid = _peer(sock)
        if uid != os.geteuid():
            log.warning("refused a client of uid %d (pid %d)", uid, pid)
            sock.close()
            return None
        return cls(sock, pid)

    def fileno(self) -> int:
        """Descriptor for a selector, -1 when closed."""
        return self._socket.fileno()

    def receive(self) -> list[Request]:
        """The requests that are here as a whole. Sets `closed` when no more can come."""
        if self.closed:
            return []
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            log.debug("connection of pid %d broke: %s", self.pid, error)
            data = b""
        if not data:
            self.close()
            return []
        self._unread += data
        return self._requests()

    def _requests(self) -> list[Request]:
        end = self._unread.rfind(b"\n", self._searched) + 1
        lines: list[bytearray] = []
        if end:  # else nothing is copied: a long line may come byte by byte
            lines = self._unread[:end].split(b"\n")[:-1]
            del self._unread[:end]
        self._searched = len(self._unread)
        requests: list[Request] = []
        for line in lines:
            request = _parse(line)
            if request is None:
                return self._cut_off("sent a line that is no request", requests)
            requests.append(request)
        if len(self._unread) > REQUEST_BYTES_MAX:
            return self._cut_off("sent a line that is too long", requests)
        return requests

    def _cut_off(self, why: str, requests: list[Request]) -> list[Request]:
        log.warning("client pid %d %s; its connection is closed", self.pid, why)
        self.close()
        return requests

    def reply(self, request: Request, result: dict[str, Any]) -> None:
        """Answer. Does nothing if no answer is wanted, or nobody is there to take it."""
        if request.id:
            try:
                data = _line({"id": request.id, "result": result}, REPLY_BYTES_MAX)
            except MessageSizeTooLargeError as error:
                self.fail(request, error)
                return
            self._queue(data)

    def fail(self, request: Request, error: Exception) -> None:
        """Answer with an error; the client raises the class of the same name."""
        if not request.id:
            log.warning("request %r of pid %d failed: %s", request.op, self.pid, error)
            return
        name = type(error).__name__ if isinstance(error, BusError) else "BusError"
        text = str(error) if isinstance(error, BusError) else f"{type(error).__name__}: {error}"
        self._queue(_line({"id": request.id, "error": name, "message": text}, REPLY_BYTES_MAX))

    def _queue(self, data: bytes) -> None:
        if self.closed:
            return
        self._unsent += data
        self.flush()
        if len(self._unsent) > UNSENT_BYTES_MAX:
            self._cut_off("does not take its replies", [])

    @property
    def wants_write(self) -> bool:
        """True if a reply waits for room: select for writing, then flush()."""
        return bool(self._unsent) and not self.closed

    def flush(self) -> None:
        """Send as much as fits now."""
        if not self.wants_write:
            return
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("client pid %d is gone: %s", self.pid, error)
            self.close()
            return
        del self._unsent[:sent]

    def close(self) -> None:
        """End the connection. Idempotent."""
        self.closed = True
        self._socket.close()


def _parse(line: bytes | bytearray) -> Request | None:
    try:
        content = json.loads(line)
        op, number, args = content["op"], content.get("id", 0), content.get("args", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # RecursionError: a hundred thousand brackets within brackets
    if isinstance(op, str) and isinstance(number, int) and isinstance(args, dict):
        return Request(op, number, args)
    return None
