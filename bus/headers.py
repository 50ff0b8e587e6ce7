"""Record headers as bytes: for each, name length (u16), value length (i32, -1: None), both."""

import struct
from collections.abc import Iterable
from typing import Final

from bus.errors import MessageSizeTooLargeError, SerializationError

Header = tuple[str, bytes | None]

#: all headers of a record together; the frame counts them in 16 bits
HEADERS_BYTES_MAX: Final = 65_535

_LENGTHS: Final = struct.Struct("<Hi")


def encode_headers(headers: Iterable[Header]) -> bytes:
    """The headers of one record, packed. Raises SerializationError, MessageSizeTooLargeError."""
    parts: list[bytes] = []
    for name, value in _pairs(headers):
        if not isinstance(name, str) or not (value is None or isinstance(value, bytes)):
            raise SerializationError(
                f"a header is (str, bytes or None), not ({type(name).__name__},"
                f" {type(value).__name__})"
            )
        encoded = _encoded(name)
        if len(encoded) > HEADERS_BYTES_MAX:
            raise MessageSizeTooLargeError(f"a header name takes {len(encoded)} bytes")
        parts += _LENGTHS.pack(len(encoded), -1 if value is None else len(value)), encoded
        if value is not None:
            parts.append(value)
    packed = b"".join(parts)
    if len(packed) > HEADERS_BYTES_MAX:
        raise MessageSizeTooLargeError(
            f"the headers take {len(packed)} bytes, the limit is {HEADERS_BYTES_MAX}"
        )
    return packed


def decode_headers(packed: bytes) -> list[Header]:
    """What `encode_headers` packed. Raises SerializationError for anything else."""
    found: list[Header] = []
    at = 0
    while at < len(packed):
        if at + _LENGTHS.size > len(packed):
            raise SerializationError("the headers end in the middle of one")
        name, value = _LENGTHS.unpack_from(packed, at)
        start = at + _LENGTHS.size + name
        at = start + max(value, 0)
        if value < -1 or at > len(packed):
            raise SerializationError("a header does not fit the headers")
        text = packed[start - name : start]
        try:
            found.append((text.decode(), None if value < 0 else packed[start:at]))
        except UnicodeDecodeError as error:
            raise SerializationError(f"header name {text[:50]!r} is not UTF-8") from error
    return found


def _pairs(headers: Iterable[Header]) -> list[Header]:
    try:
        return [(name, value) for name, value in headers]
    except (TypeError, ValueError) as error:
        raise SerializationError(
            f"headers are a list of (str, bytes or None), not {headers!r:.100}"
        ) from error


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise SerializationError(f"header name {name!r} is not valid text") from error
