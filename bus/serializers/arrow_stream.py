"""Arrow's stream of messages, laid out so that every buffer begins on a multiple of 64.

    0xffffffff | bytes of metadata | metadata, a flatbuffer | zeros | body: buffers, zeros between

pyarrow puts buffers on multiples of 8, and nothing makes it leave more room. So what it writes is
taken apart: the metadata of a batch says where each buffer begins in the body, and is told the new
places. The buffers themselves are passed on as they are. The result is a stream like any other
(https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format).
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

ALIGN: Final = 64
_CONTINUATION: Final = 0xFFFFFFFF
#: fields of the tables in Message.fbs, by their number
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY, _BATCH = 2, 3
_DICTIONARY_DATA = 1
_BATCH_BUFFERS = 2


def laid_out(pieces: Sequence[Any]) -> list[Any]:
    """What pyarrow wrote, as parts that each begin on a multiple of 64."""
    parts: list[Any] = []
    source = _Pieces(pieces)
    while head := source.take(8):
        marker, size = struct.unpack("<II", b"".join(head))
        if marker != _CONTINUATION:
            raise ValueError(f"pyarrow wrote {marker:#x} where a message begins")
        metadata = bytearray(b"".join(source.take(size)))
        body = _Pieces(source.take(_body_length(metadata)))
        buffers = list(_moved(metadata, body)) if metadata else []
        padded = -(-(8 + len(metadata)) // ALIGN) * ALIGN - 8 if metadata else 0
        parts.append(struct.pack("<II", marker, padded) + bytes(metadata.ljust(padded, b"\0")))
        parts += buffers
    return parts


class _Pieces:
    """A run of bytes in pieces, taken from the front without copying."""

    def __init__(self, pieces: Sequence[Any]) -> None:
        self._pieces = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        self._next = 0

    def take(self, size: int) -> list[memoryview]:
        """The next `size` bytes; fewer at the end."""
        taken = []
        while size and self._next < len(self._pieces):
            piece = self._pieces[self._next]
            taken.append(piece[:size])
            if len(piece) > size:
                self._pieces[self._next] = piece[size:]
            else:
                self._next += 1
            size -= len(taken[-1])
        return taken


def _moved(metadata: bytearray, body: _Pieces) -> Iterator[Any]:
    """The buffers of a message, whose metadata is told where they are now."""
    at, end = 0, 0
    for entry in _buffer_entries(metadata):
        offset, size = struct.unpack_from("<qq", metadata, entry)
        end = -(-end // ALIGN) * ALIGN
        struct.pack_into("<q", metadata, entry, end)
        if size == 0:
            continue
        body.take(offset - at)
        taken = body.take(size)
        at = offset + size
        end += size
        yield taken[0] if len(taken) == 1 else b"".join(taken)
    if field := _field(metadata, _root(metadata), _BODY_LENGTH):
        struct.pack_into("<q", metadata, field, -(-end // ALIGN) * ALIGN)  # the next part is there


def _buffer_entries(metadata: bytearray) -> range:
    """Where in the metadata the place of each buffer of the message stands."""
    message = _root(metadata)
    kind = _field(metadata, message, _HEADER_TYPE)
    batch = _pointed(metadata, _field(metadata, message, _HEADER))
    if kind and metadata[kind] == _DICTIONARY:
        batch = _pointed(metadata, _field(metadata, batch, _DICTIONARY_DATA))
    elif not kind or metadata[kind] != _BATCH:
        return range(0)
    vector = _field(metadata, batch, _BATCH_BUFFERS)
    if not vector:
        return range(0)
    begin = _pointed(metadata, vector)
    (count,) = struct.unpack_from("<I", metadata, begin)
    return range(begin + 4, begin + 4 + 16 * count, 16)


def _body_length(metadata: bytearray) -> int:
    field = _field(metadata, _root(metadata), _BODY_LENGTH) if metadata else 0
    return int(struct.unpack_from("<q", metadata, field)[0]) if field else 0


def _root(metadata: bytearray) -> int:
    return _pointed(metadata, 0)


def _pointed(metadata: bytearray, at: int) -> int:
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _field(metadata: bytearray, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table stands; 0 if it was left out."""
    (back,) = struct.unpack_from("<i", metadata, table)
    (size,) = struct.unpack_from("<H", metadata, table - back)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, table - back + 4 + 2 * number)
    return table + int(offset) if offset else 0
