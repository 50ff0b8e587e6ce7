"""How far a durable segment was on disk, noted in the file itself.

The newest segment has no seal, and after a power loss its end is torn: what does not verify there
was never acknowledged, and goes. But a frame that was on disk and does not verify has rotted, and
then nothing may be cut. The note tells the two apart: below it, everything had been synced.

Two copies, each in a sector of its own, written in turn; the larger valid one counts. The note is
written after a sync and gets to the disk with the next one, so it may be behind, never ahead.
"""

import os
import struct
from dataclasses import dataclass
from typing import Final

from bus.native.core import LAYOUT, crc32c

_COPY: Final = struct.Struct("<QQ")
_CHECKSUM: Final = struct.Struct("<I")
_SEED: Final = struct.Struct("<Q")
_AT: Final = LAYOUT["bus_segment.synced"]
_STRIDE: Final = LAYOUT["sizeof.bus_synced"]
_COPIES: Final = 2

assert LAYOUT["bus_synced.crc"] == _COPY.size


@dataclass(frozen=True, slots=True, order=True)
class Synced:
    """Every byte below `position` and every record below `offset` was on disk."""

    position: int
    offset: int


def write_mark(fd: int, seed: int, turn: int, position: int, offset: int) -> None:
    """Notes how far the segment is on disk. Raises OSError. `turn` counts the notes."""
    words = _COPY.pack(position, offset)
    mark = words + _CHECKSUM.pack(crc32c(words + _SEED.pack(seed)))
    os.pwrite(fd, mark, _AT + turn % _COPIES * _STRIDE)


def read_mark(head: bytes, seed: int) -> Synced | None:
    """The note in the first pages of a segment, None if there is no valid one."""
    found = [_copy(head, _AT + copy * _STRIDE, seed) for copy in range(_COPIES)]
    return max((one for one in found if one is not None), default=None)


def _copy(head: bytes, at: int, seed: int) -> Synced | None:
    words = head[at : at + _COPY.size]
    stored = head[at + _COPY.size : at + _COPY.size + _CHECKSUM.size]
    if len(stored) < _CHECKSUM.size:
        return None
    if _CHECKSUM.unpack(stored)[0] != crc32c(words + _SEED.pack(seed)):
        return None
    return Synced(*_COPY.unpack(words))
