"""The bytes of a record, from which anybody can tell who sent it, and whether a byte has changed.

A value of 24 bytes or more begins with its producer, its sequence number and its own length, and
goes on with a pattern that follows from them. A shorter one leaves the name to the key.
"""

import hashlib
import struct
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<QQQ")
_PATTERN_BYTES: Final = 61  # a prime: a block of the file that moved does not fit its new place
_NAMED: Final = b"id:"
VALUE_BYTES_MAX: Final = 200 * 1024
#: A value below it has no room for its name.
NAMELESS_BYTES: Final = _HEAD.size


class Name(NamedTuple):
    """Who sent a record, and as which one; never used twice."""

    producer: int
    sequence: int


def value_of(name: Name, size: int) -> bytes:
    """The value of that record when it has that many bytes."""
    head = _HEAD.pack(*name, size)
    pattern = hashlib.blake2b(head, digest_size=_PATTERN_BYTES).digest()
    return (head + pattern * (size // _PATTERN_BYTES + 1))[:size]


def key_of(name: Name, size: int, key: bytes | None) -> bytes | None:
    """`key`, or the name itself when the value is too short to tell."""
    return key if size >= NAMELESS_BYTES else _NAMED + _HEAD.pack(*name, size)


def name_of(key: bytes | None, value: bytes) -> Name | None:
    """Whose record it is; None if no producer can have sent these bytes."""
    if len(value) < NAMELESS_BYTES:
        if key is None or not key.startswith(_NAMED) or len(key) != len(_NAMED) + _HEAD.size:
            return None
        head = key[len(_NAMED) :]
    else:
        head = value[: _HEAD.size]
    producer, sequence, size = _HEAD.unpack(head)
    name = Name(producer, sequence)
    return name if size == len(value) and value == value_of(name, size) else None
