"""Values as pickles (protocol 5) with their buffers out of band: arrays are read in place.

    offset  0        4        5       8        12
            | "BUSP" | version| zeros | count  | zeros | length of each part: count × 8 bytes | …
            … the pickle, then each buffer; all parts begin on a multiple of 64

Little-endian. The pickle is the first of `count` parts. Between parts there are zeros.
"""

import pickle
import struct
from typing import Any, Final

from bus.errors import SerializationError
from bus.native.core import Parts

MAGIC: Final = b"BUSP"
VERSION: Final = 1
ALIGN: Final = 64
PROTOCOL: Final = 5
_HEAD: Final = struct.Struct("<4sB3xI4x")


class Pickle:
    """Any object that pickle takes. **Whoever may write to the topic can run code in its readers.**

    Buffers that an object hands over out of band (numpy arrays do, if they are contiguous, and so
    do pandas frames and Arrow batches) are copied once, straight into the log, and are read in
    place: arrays come back read-only. Everything else is pickled and unpickled as usual.
    """

    #: `deserialize` takes a view of the record, and objects refer to it
    in_place = True

    def serialize(self, value: Any) -> Parts:
        """The pickle and its buffers. Raises SerializationError."""
        buffers: list[pickle.PickleBuffer] = []
        try:
            stream = pickle.dumps(value, protocol=PROTOCOL, buffer_callback=buffers.append)
            parts: list[Any] = [stream, *(buffer.raw() for buffer in buffers)]
        except Exception as error:
            raise SerializationError(
                f"{type(value).__name__} cannot be pickled: {error!r}"
            ) from error
        lengths = [memoryview(part).nbytes for part in parts]
        header = _HEAD.pack(MAGIC, VERSION, len(parts)) + struct.pack(f"<{len(parts)}Q", *lengths)
        return Parts([header, *parts])

    def deserialize(self, data: "bytes | memoryview") -> Any:
        """The object. Raises SerializationError: also for whatever unpickling raises."""
        stream, *buffers = _parts(memoryview(data).toreadonly())
        try:
            return pickle.loads(stream, buffers=buffers)
        except Exception as error:
            raise SerializationError(f"this pickle cannot be loaded: {error!r}") from error


def _parts(data: memoryview) -> list[memoryview]:
    if len(data) < _HEAD.size or bytes(data[:4]) != MAGIC or data[4] != VERSION:
        raise SerializationError("this value was not written by Pickle()")
    _, _, count = _HEAD.unpack_from(data)
    end = _HEAD.size + 8 * count
    if count == 0 or end > len(data):
        raise SerializationError(f"{count} parts of a pickle do not fit {len(data)} bytes")
    found = []
    for length in struct.unpack_from(f"<{count}Q", data, _HEAD.size):
        begin = -(-end // ALIGN) * ALIGN
        end = begin + length
        found.append(data[begin:end])
    if end != len(data):
        raise SerializationError(f"the parts of a pickle end at {end}, its value at {len(data)}")
    return found
