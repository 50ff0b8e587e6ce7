"""How values travel between stages unless a program says otherwise: `Values`, and formats by name.

    bytes, bytearray, memoryview       as they are; they come as bytes
    numpy arrays, Arrow batches        as bus.serializers.Numpy and Arrow: read in place, read-only
    what JSON has                      as JSON: tuples come as lists, keys of dicts as texts
    the same with arrays and bytes     as JSON beside the arrays, which are read in place
    in it

No pickle: whoever may write to a topic could run code in its readers. A program that trusts them
all says values=bus.serializers.Pickle(), and then sends any object.

    offset  0        4        8                     64 …
            | "WPV1" | count  | count × 8: lengths  | JSON | each array or bytes object | …
"""

import json
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from bus import Parts, serializers
from bus.errors import SerializationError
from workers.errors import PoolOptionError

ALIGN: Final = 64
_MIXED: Final = b"WPV1"
_BYTES: Final = b"WPVb"
_JSON: Final = b"J"
_HEAD: Final = struct.Struct("<4sI")
#: The one key of a dict that stands for an array or a bytes object.
_MARK: Final = "\x00part"
_CLASSES: Final = {"json": "Json", "msgpack": "MessagePack", "numpy": "Numpy", "arrow": "Arrow"}


@runtime_checkable
class Format(Protocol):
    """What turns values into bytes and back: one of bus.serializers, or one of a program's own."""

    def serialize(self, value: Any, /) -> Any:
        """Bytes, or Parts. Raises SerializationError."""

    def deserialize(self, data: Any, /) -> Any:
        """The value. Raises SerializationError."""


class Values:
    """The format of what stages send each other."""

    in_place = True

    def serialize(self, value: Any) -> Any:
        """Bytes or parts. Raises SerializationError for what is none of the kinds above."""
        if isinstance(value, bytes | bytearray | memoryview):
            return Parts([_BYTES, value])
        kind = _array_kind(value)
        if kind is not None:
            return _format(kind).serialize(value)
        parts: list[Any] = []
        try:
            text = json.dumps(value, default=lambda one: _apart(one, parts), ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                f"{type(value).__name__} cannot be sent to the next stage: {error}; send bytes,"
                " arrays and what JSON has, or say values=bus.serializers.Pickle()"
            ) from error
        if not parts:
            return _JSON + text.encode()
        every = [text.encode(), *parts]
        lengths = [memoryview(part).nbytes for part in every]
        head = _HEAD.pack(_MIXED, len(every)) + struct.pack(f"<{len(every)}Q", *lengths)
        return Parts([head, *every])

    def deserialize(self, data: Any) -> Any:
        """The value; arrays lie in `data`. Raises SerializationError."""
        data = memoryview(data)
        tag = bytes(data[:4])
        if tag[:1] == _JSON:
            return json.loads(bytes(data[1:]))
        if tag == _BYTES:
            return bytes(data[ALIGN:])
        if tag == _MIXED:
            return _mixed(data)
        kind = {b"BUSN": "numpy", b"BUSA": "arrow"}.get(tag)
        if kind is None:
            raise SerializationError(
                "no stage of a pipeline has written this value; say values=None for plain bytes"
            )
        return _format(kind).deserialize(data)


def _array_kind(value: Any) -> str | None:
    numpy, arrow = sys.modules.get("numpy"), sys.modules.get("pyarrow")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return "numpy"
    if arrow is not None and isinstance(value, arrow.RecordBatch | arrow.Table):
        return "arrow"
    return None


def _apart(value: Any, parts: list[Any]) -> Any:
    """What stands in the JSON for something that JSON has not."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, bytes | bytearray | memoryview):
        parts.append(value)
        return {_MARK: [len(parts)]}
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if numpy is None or type(value) is not numpy.ndarray or value.dtype.kind not in "biufcmM":
        raise TypeError(f"{type(value).__name__} is neither bytes, nor an array, nor in JSON")
    parts.append(numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8))
    return {_MARK: [len(parts), value.dtype.str, list(value.shape)]}


def _mixed(data: memoryview) -> Any:
    _, count = _HEAD.unpack_from(data)
    end = _HEAD.size + 8 * count
    parts = []
    for length in struct.unpack_from(f"<{count}Q", data, _HEAD.size):
        begin = -(-end // ALIGN) * ALIGN
        end = begin + length
        parts.append(data[begin:end])
    if end != len(data):
        raise SerializationError(f"the parts of a value end at {end}, the value at {len(data)}")
    return json.loads(bytes(parts[0]), object_hook=lambda found: _together(found, parts))


def _together(found: dict[str, Any], parts: list[memoryview]) -> Any:
    if len(found) != 1 or _MARK not in found:
        return found
    number, *shaped = found[_MARK]
    if not shaped:
        return bytes(parts[number])
    import numpy  # the value has an array: its reader has numpy, or cannot read it

    dtype, shape = shaped
    return numpy.ndarray(shape, numpy.dtype(dtype), parts[number])


def _format(name: str) -> Any:
    return getattr(serializers, _CLASSES[name])()


def chosen(option: "Format | str | None") -> Format | None:
    """The format of an option: one by name, an object, or None for plain bytes."""
    if option is None or (isinstance(option, Format) and not isinstance(option, type)):
        return option
    if not isinstance(option, str) or option not in _CLASSES:
        raise PoolOptionError(
            f"values={option!r} is no format: give {', '.join(map(repr, _CLASSES))}, None for"
            " bytes, or an object with serialize() and deserialize(), as bus.serializers.Pickle()"
        )
    made: Format = _format(option)
    return made


def reader_of(format: Format | None) -> Callable[[Any], Any]:
    """The function that makes a value of a record of the bus; None stays None."""
    if format is None:
        return lambda record: record.value
    deserialize = format.deserialize
    if getattr(format, "in_place", False):
        return lambda record: (
            None if record.serialized_value_size < 0 else deserialize(record.view())
        )
    return lambda record: None if record.serialized_value_size < 0 else deserialize(record.value)
