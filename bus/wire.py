"""Messages between a guest and the gateway of another user's bus: framed bytes, bounded in length.

    offset  0               4       5         8               12
            | bytes of body | kind  | zero    | id            | body …

    CALL, RESULT, ERROR   the body is a JSON object
    RECORD, STORED        the body is packed as below; nothing is ever unpickled

A RESULT may carry one file descriptor (SCM_RIGHTS). The gateway takes none: it receives without
room for them, and the kernel drops what a guest sends.
"""

import json
import socket
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from bus.config import HEADERS_BYTES_MAX, KEY_BYTES_MAX, MIB
from bus.errors import BusError, MessageSizeTooLargeError

CALL: Final = 1
RESULT: Final = 2
ERROR: Final = 3
RECORD: Final = 4
STORED: Final = 5

#: bytes of a JSON body; of a list of all topics, the longest
CALL_BYTES_MAX: Final = 64 << 10
RESULT_BYTES_MAX: Final = 16 * MIB
#: value of a record that a guest sends; larger ones are for the owner's own programs
VALUE_BYTES_MAX: Final = 64 * MIB
RECORD_BYTES_MAX: Final = VALUE_BYTES_MAX + KEY_BYTES_MAX + HEADERS_BYTES_MAX + 4096

HEADER: Final = struct.Struct("<IB3xI")
#: acks (255: all), flags, topic bytes, partition (-1: by key), timestamp in ms (-1: now), then
#: the lengths of key, headers and value
_RECORD: Final = struct.Struct("<BBHiqIII")
_NULL_KEY: Final = 1
_NULL_VALUE: Final = 2
_IN_PARTS: Final = 4
_ALL: Final = 255
#: partition, offset, timestamp in ms
STORED_BODY: Final = struct.Struct("<Iqq")
_READ_BYTES: Final = 1 << 20


class MalformedError(BusError):
    """Raised when the other end of a guest's socket sent what is no message."""


class HangUpError(BusError):
    """Raised when the other end of a guest's socket is gone."""


@dataclass(frozen=True)
class Message:
    """One message as it came; `fd` is -1 if it carried none."""

    kind: int
    id: int
    body: bytes
    fd: int = -1

    def json(self) -> dict[str, Any]:
        """The body of a CALL, RESULT or ERROR. Raises MalformedError."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise MalformedError(f"the body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise MalformedError("the body is no JSON object")
        return value


def pack(kind: int, number: int, body: bytes) -> bytes:
    """A message as it travels."""
    return HEADER.pack(len(body), kind, number) + body


def pack_json(kind: int, number: int, value: dict[str, Any]) -> bytes:
    """A CALL, RESULT or ERROR. Raises MessageSizeTooLargeError."""
    body = json.dumps(value, separators=(",", ":")).encode()
    most = CALL_BYTES_MAX if kind == CALL else RESULT_BYTES_MAX
    if len(body) > most:
        raise MessageSizeTooLargeError(f"a message of {len(body)} bytes, at most {most} fit")
    return pack(kind, number, body)


def send(sock: socket.socket, data: bytes, fd: int = -1) -> None:
    """Send a packed message, with a descriptor if there is one. Raises HangUpError."""
    try:
        sent = socket.send_fds(sock, [data], [fd]) if fd >= 0 else 0
        sock.sendall(memoryview(data)[sent:])
    except OSError as error:
        raise HangUpError(f"cannot send: {error}") from error


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes. Raises HangUpError at the end of the connection or after its timeout."""
    data = bytearray()
    while len(data) < size:
        try:
            part = sock.recv(min(size - len(data), _READ_BYTES))
        except OSError as error:
            raise HangUpError(f"cannot receive: {error}") from error
        if not part:
            raise HangUpError("the connection was closed")
        data += part
    return bytes(data)


def receive_reply(sock: socket.socket) -> Message:
    """The gateway's next message, with the descriptor that may come along. Raises HangUpError."""
    try:
        head, fds, _, _ = socket.recv_fds(sock, HEADER.size, 1, socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise HangUpError(f"cannot receive: {error}") from error
    if not head:
        raise HangUpError("the connection was closed")
    head += receive_exactly(sock, HEADER.size - len(head))
    size, kind, number = HEADER.unpack(head)
    if size > RESULT_BYTES_MAX:
        raise HangUpError(f"the gateway announced a message of {size} bytes")
    return Message(kind, number, receive_exactly(sock, size), fds[0] if fds else -1)


# ------------------------------------------------------------------------------------ records


@dataclass(frozen=True)
class GuestRecord:
    """A record on its way to the gateway. `acks` is 0, 1 or "all"; `partition` -1: by key.

    in_parts: the value was bus.Parts, which begin on a multiple of 64 in the log.
    """

    topic: str
    value: bytes | None
    key: bytes | None
    headers: bytes
    partition: int
    timestamp_ms: int
    acks: int | str
    in_parts: bool = False

    def packed(self) -> bytes:
        """The body of a RECORD. Raises MessageSizeTooLargeError."""
        name, key, value = self.topic.encode(), self.key or b"", self.value or b""
        if len(value) > VALUE_BYTES_MAX:
            raise MessageSizeTooLargeError(
                f"a guest's value has at most {VALUE_BYTES_MAX} bytes, not {len(value)}"
            )
        flags = _NULL_KEY * (self.key is None) | _NULL_VALUE * (self.value is None)
        flags |= _IN_PARTS * self.in_parts
        acks = _ALL if self.acks == "all" else int(self.acks)
        lengths = (len(key), len(self.headers), len(value))
        head = _RECORD.pack(acks, flags, len(name), self.partition, self.timestamp_ms, *lengths)
        return b"".join((head, name, key, self.headers, value))

    @classmethod
    def unpack(cls, body: bytes) -> "GuestRecord":
        """What `packed` made. Raises MalformedError for anything else."""
        if len(body) < _RECORD.size:
            raise MalformedError(f"a record of {len(body)} bytes")
        acks, flags, name, partition, timestamp_ms, *lengths = _RECORD.unpack_from(body)
        ends = [_RECORD.size + name]
        for length in lengths:
            ends.append(ends[-1] + length)
        if ends[-1] != len(body) or acks not in (0, 1, _ALL) or flags > 7:
            raise MalformedError("the lengths of a record do not fit its message")
        key, headers, value = (body[a:b] for a, b in pairwise(ends))
        return cls(
            topic=body[_RECORD.size : ends[0]].decode(errors="replace"),
            value=None if flags & _NULL_VALUE else value,
            key=None if flags & _NULL_KEY else key,
            headers=headers,
            partition=partition,
            timestamp_ms=timestamp_ms,
            acks="all" if acks == _ALL else acks,
            in_parts=bool(flags & _IN_PARTS),
        )
