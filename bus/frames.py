"""Frames of a segment, walked in Python: to check and to show them, not to move them.

A frame is valid if and only if its size is a multiple of 8, at least that of its header, and ends
inside the segment; its lengths fit its size; and its CRC32C (over key, headers, value, the first
word of the header, the header behind the checksum, and the segment's seed, in this order) equals
the stored one. Large values in memory topics are left out of it, and a bit says so. This is a
second implementation of the rule in `bus/native/layout.h`, on purpose: `bus check` would prove
little if it asked the code that wrote the bytes.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from bus.fields import Fields
from bus.native.core import LAYOUT, crc32c

_HEADER = Fields(
    "bus_frame",
    {
        "size": "I",
        "crc": "I",
        "offset": "Q",
        "timestamp": "q",
        "value_length": "I",
        "attributes": "H",
        "headers_length": "H",
        "key_length": "I",
        "sequence": "I",
        "producer": "Q",
    },
)
HEADER_BYTES = _HEADER.size
DATA_START = LAYOUT["sizeof.bus_segment"]
TYPE_RECORD = LAYOUT["BUS_TYPE_RECORD"]
TYPE_PAD = LAYOUT["BUS_TYPE_PAD"]
TYPE_END = LAYOUT["BUS_TYPE_END"]
TYPE_CONTROL = LAYOUT["BUS_TYPE_CONTROL"]

_TYPE_MASK = LAYOUT["BUS_TYPE_MASK"]
_NULL_KEY = LAYOUT["BUS_ATTR_NULL_KEY"]
_NULL_VALUE = LAYOUT["BUS_ATTR_NULL_VALUE"]
_ALIGNED = LAYOUT["BUS_ATTR_ALIGNED"]
_BARE_VALUE = LAYOUT["BUS_ATTR_BARE_VALUE"]
_FRAME_ALIGN = LAYOUT["BUS_FRAME_ALIGN"]
_VALUE_ALIGN = LAYOUT["BUS_VALUE_ALIGN"]
_CRC_FROM = LAYOUT["bus_frame.offset"]
_CRC_AT = LAYOUT["bus_frame.crc"]
_SEED = struct.Struct("<Q")


class Frame(NamedTuple):
    """A frame's header as stored, and where the frame stands. Fields in the layout's order."""

    size: int
    crc: int
    offset: int
    timestamp: int
    value_length: int
    attributes: int
    headers_length: int
    key_length: int
    sequence: int
    producer: int
    position: int

    @property
    def type(self) -> int:
        """TYPE_RECORD, TYPE_PAD, TYPE_END or TYPE_CONTROL."""
        return self.attributes & _TYPE_MASK

    @property
    def carries_offset(self) -> bool:
        """Whether the frame takes an offset of its own: records and control records do."""
        return self.type in (TYPE_RECORD, TYPE_CONTROL)

    @property
    def key_at(self) -> int:
        """Position in the segment of the key's first byte; the headers follow the key."""
        return self.position + HEADER_BYTES

    @property
    def value_at(self) -> int:
        """Position in the segment of the value's first byte."""
        end = self.key_at + self.key_length + self.headers_length
        return _align(end, _VALUE_ALIGN if self.attributes & _ALIGNED else _FRAME_ALIGN)

    @property
    def bare_value(self) -> bool:
        """Whether the checksum leaves the value out: large ones, in memory topics only."""
        return bool(self.attributes & _BARE_VALUE)

    @property
    def null_key(self) -> bool:
        """Whether the record has no key, which is not the same as an empty one."""
        return bool(self.attributes & _NULL_KEY)

    @property
    def null_value(self) -> bool:
        """Whether the record has no value (a tombstone)."""
        return bool(self.attributes & _NULL_VALUE)


class InvalidFrameError(Exception):
    """Raised when bytes are no valid frame; says where, and which part of the rule they break."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"invalid frame at {position}: {reason}")
        self.position = position
        self.reason = reason


def read_frame(data: memoryview, position: int, end: int, seed: int) -> Frame:
    """The valid frame at `position` that ends at or before `end`; else InvalidFrameError."""
    if position + HEADER_BYTES > end:
        raise InvalidFrameError(position, f"no room for a frame header before {end}")
    frame = Frame._make((*_HEADER.values(data, position), position))
    value_at = frame.value_at
    reason = _wrong_size(frame, value_at, end) or _wrong_crc(data, frame, value_at, seed)
    if reason:
        raise InvalidFrameError(position, reason)
    return frame


def walk(data: memoryview, start: int, end: int, seed: int) -> Iterator[Frame]:
    """The frames from `start` to `end` or the end frame. Raises InvalidFrameError at a bad one."""
    position = start
    while position < end:
        frame = read_frame(data, position, end, seed)
        yield frame
        if frame.type == TYPE_END:
            return
        position += frame.size


def _wrong_size(frame: Frame, value_at: int, end: int) -> str | None:
    size, position = frame.size, frame.position
    if size < HEADER_BYTES or size % _FRAME_ALIGN:
        return f"size {size} is not a multiple of {_FRAME_ALIGN} from {HEADER_BYTES} up"
    if position + size > end:
        return f"size {size} reaches beyond {end}"
    needed = _align(value_at + frame.value_length, _FRAME_ALIGN) - position
    if needed != size:
        return f"key, headers and value need {needed} bytes, its size is {size}"
    return None


def _wrong_crc(data: memoryview, frame: Frame, value_at: int, seed: int) -> str | None:
    start = frame.position
    body_at = start + HEADER_BYTES
    body_end = body_at + frame.key_length + frame.headers_length
    crc = crc32c(data[body_at:body_end]) if body_end > body_at else 0
    if not frame.bare_value:
        crc = crc32c(data[value_at : value_at + frame.value_length], crc)
    header = bytes(data[start:body_at])
    crc = crc32c(header[:_CRC_AT] + header[_CRC_FROM:] + _SEED.pack(seed), crc)
    return None if crc == frame.crc else f"CRC32C is {crc:08x}, stored is {frame.crc:08x}"


def _align(number: int, step: int) -> int:
    return -(-number // step) * step
