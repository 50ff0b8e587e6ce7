"""A task or a result as the value of a record: a head, a function, a pickle and its buffers.

    offset  0      4           8         12     20
            | kind | function: | buffers | task | lengths of all parts: 8 bytes each, if buffers | …
            |      | bytes     |         |      |
            … without buffers: the function's pickle, then the pickle
            … with buffers: both, and each buffer, on multiples of 64

Little-endian. Buffers are what pickle 5 hands out of band: arrays are copied once, into the log.
"""

import pickle
import struct
from collections.abc import Sequence
from enum import IntEnum
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, NamedTuple

from bus import Parts

ALIGN: Final = 64
PROTOCOL: Final = 5
#: Up to here a value is copied out of the log, which costs less than a view of it.
SMALL_BYTES: Final = 4096
#: These are pickled by name: a pickle of one stays true, and what it makes has no state of a task.
BY_NAME: Final = (FunctionType, BuiltinFunctionType, type)
_HEAD: Final = struct.Struct("<B3xIIQ")
#: Most results, and the arguments of the smallest tasks.
_NONE: Final = pickle.dumps(None, protocol=PROTOCOL)
NO_ARGUMENTS: Final[tuple[tuple[()], dict[str, Any]]] = ((), {})
_NO_ARGUMENTS: Final = pickle.dumps(NO_ARGUMENTS, protocol=PROTOCOL)


class Kind(IntEnum):
    """What an envelope holds."""

    TASK = 1
    #: a task's result
    VALUE = 2
    #: the exception that it raised, as workers/remote.py writes it
    ERROR = 3
    #: the pickle of the error of a task whose worker died
    DIED = 4
    #: a task: items of a map, see workers/chunks.py
    CHUNK = 5
    #: for tasks of a durable executor, whose numbers follow: nobody will run them; their results
    #: were given to the program; nobody wants them any more
    CANCELLED = 6
    FETCHED = 7
    FORGOTTEN = 8


class Envelope(NamedTuple):
    """An envelope that was opened; nothing is unpickled yet."""

    kind: int
    task: int
    function: bytes
    stream: "bytes | memoryview"
    buffers: Sequence["memoryview | bytearray"] = ()

    def load(self) -> Any:
        """The object that was pickled. Raises whatever unpickling raises."""
        return pickle.loads(self.stream, buffers=self.buffers)

    def copied(self) -> "Envelope":
        """With buffers that may be written to, and need the log no more."""
        return self._replace(buffers=[bytearray(buffer) for buffer in self.buffers])


def seal(kind: Kind, task: int, value: Any, function: bytes = b"") -> "bytes | Parts":
    """Pickles a value. Raises whatever pickling raises."""
    buffers: list[pickle.PickleBuffer] = []
    if value is None:
        stream = _NONE
    elif value is NO_ARGUMENTS:
        stream = _NO_ARGUMENTS
    else:
        stream = pickle.dumps(value, protocol=PROTOCOL, buffer_callback=buffers.append)
    if not buffers:
        return _HEAD.pack(kind, len(function), 0, task) + function + stream
    parts: list[Any] = [function, stream, *(buffer.raw() for buffer in buffers)]
    lengths = [memoryview(part).nbytes for part in parts]
    head = _HEAD.pack(kind, len(function), len(buffers), task)
    return Parts([head + struct.pack(f"<{len(parts)}Q", *lengths), *parts], align=ALIGN)


def seal_bytes(kind: Kind, task: int, data: bytes) -> bytes:
    """For what is bytes already."""
    return _HEAD.pack(kind, 0, 0, task) + data


def seal_numbers(kind: Kind, tasks: Sequence[int]) -> bytes:
    """Says something of some tasks."""
    return _HEAD.pack(kind, 0, 0, 0) + struct.pack(f"<{len(tasks)}Q", *tasks)


def numbers(stream: "bytes | memoryview") -> tuple[int, ...]:
    """The tasks of which `seal_numbers` was told."""
    return struct.unpack(f"<{len(stream) // 8}Q", stream)


def head(data: "bytes | memoryview") -> tuple[int, int]:
    """Kind and task of what `seal` made."""
    kind, _, _, task = _HEAD.unpack_from(data)
    return kind, task


def plain(data: bytes) -> tuple[int, int, bytes] | None:
    """Kind, task and pickle of what has neither a function nor buffers; None for all else."""
    kind, function_bytes, count, task = _HEAD.unpack_from(data)
    if function_bytes or count:
        return None
    return kind, task, data[_HEAD.size :]


def unseal(data: "bytes | memoryview") -> Envelope:
    """Opens what `seal` made; its buffers are read-only views of `data`."""
    kind, function_bytes, count, task = _HEAD.unpack_from(data)
    begin = _HEAD.size
    if not count:
        end = begin + function_bytes
        return Envelope(kind, task, bytes(data[begin:end]), data[end:])
    lengths = struct.unpack_from(f"<{count + 2}Q", data, begin)
    end = begin + 8 * len(lengths)
    view, found = memoryview(data).toreadonly(), []
    for length in lengths:
        begin = -(-end // ALIGN) * ALIGN
        end = begin + length
        found.append(view[begin:end])
    return Envelope(kind, task, bytes(found[0]), found[1], found[2:])
