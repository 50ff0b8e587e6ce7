"""Odd bytes for the files of a bus: half of the damages carry a checksum that holds."""

import json
import random
import struct
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from bus import twofold
from bus.native.core import LAYOUT, crc32c

_EDGES = [0, 1, 7, 47, 48, 255, 4096, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
_ODD: list[Any] = [None, True, -1, 0, 1 << 63, 1 << 80, 0.5, 1e308, "", "x" * 300, "../x", "\ud800"]
_ODD += [[], {}, [[]], {"a": {}}, "\x00", "9" * 5000]
_FRAME = LAYOUT["sizeof.bus_frame"]
_DATA_START = LAYOUT["sizeof.bus_segment"]
_BODY_FROM = LAYOUT["bus_segment.bus_id"]


class Victim:
    """A file that is damaged and made whole again, in place: it may be mapped meanwhile."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path = path
        self.bytes = path.read_bytes()
        self._chance = chance
        self._changed: list[tuple[int, int]] = []
        self._resized = False

    @cached_property
    def frames(self) -> list[int]:
        """Where its frames stand, if it is a segment."""
        return frames_of(self.bytes)

    @cached_property
    def used(self) -> list[int]:
        """Positions of 64 bytes that say something."""
        return [at for at in range(0, len(self.bytes), 64) if any(self.bytes[at : at + 64])]

    def put(self, at: int, data: bytes) -> None:
        data = data[: max(len(self.bytes) - at, 0)]
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)
        self._changed.append((at, len(data)))

    def now(self, at: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(at)
            return file.read(size)

    def replace(self, data: bytes) -> None:
        self.path.write_bytes(data)
        self._resized = True

    def word(self, begin: int, end: int) -> None:
        """One odd word of 1 to 8 bytes between two positions."""
        size = 1 << self._chance.randrange(4)
        value = self._chance.choice([self._chance.choice(_EDGES), self._chance.getrandbits(64)])
        at = self._chance.randrange(begin, max(end, begin + 1)) // size * size
        self.put(at, (value & ((1 << 8 * size) - 1)).to_bytes(size, "little"))

    def resize(self) -> None:
        size = self._chance.choice(
            [0, 1, 100, 4095, 4096, len(self.bytes) - 1, len(self.bytes) // 2]
        )
        self.replace(self.bytes[: max(size, 0)])

    def heal(self) -> None:
        if self._resized:
            self.path.write_bytes(self.bytes)
        changed, self._changed = self._changed, []
        for at, size in changed:
            self.put(at, self.bytes[at : at + size])
        self._changed.clear()
        self._resized = False


def frames_of(data: bytes) -> list[int]:
    """Where the frames of a segment stand."""
    at, found = _DATA_START, []
    while at + _FRAME <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        if size < _FRAME:
            break
        found.append(at)
        at += size
    return found


def segment(victim: Victim, chance: random.Random) -> None:
    """Header, index or a frame; mended half the time."""
    frames = victim.frames
    for _ in range(chance.randrange(1, 4)):
        kind = chance.randrange(4)
        if kind == 0:
            victim.word(0, 152)
            if chance.random() < 0.5:
                head = victim.now(0, 4096)
                reserved = LAYOUT["bus_segment.reserved"]
                victim.put(12, struct.pack("<I", crc32c(head[_BODY_FROM:reserved])))
        elif kind == 1:
            victim.word(LAYOUT["bus_segment.index"], _DATA_START)
        elif frames:
            at = chance.choice(frames)
            victim.word(at, at + (_FRAME if kind == 2 else 200))
            if chance.random() < 0.5:
                mend_frame(victim, at)
    if chance.random() < 0.05:
        victim.resize()


def mend_frame(victim: Victim, at: int) -> None:
    head = victim.now(at, _FRAME)
    value_length, attributes, headers, key = struct.unpack_from("<IHHI", head, 24)
    body = victim.now(at + _FRAME, min(key + headers, 1 << 20))
    align = 64 if attributes & 0x200 else 8
    value_at = -(-(at + _FRAME + key + headers) // align) * align
    value = b"" if attributes & 0x400 else victim.now(value_at, min(value_length, 1 << 20))
    crc = crc32c(value, crc32c(body)) if value else crc32c(body)
    seed = victim.bytes[LAYOUT["bus_segment.seed"] :][:8]
    victim.put(at + 4, struct.pack("<I", crc32c(seed, crc32c(head[8:], crc32c(head[:4], crc)))))


def table(victim: Victim, chance: random.Random) -> None:
    """Words of a table that is read without a checksum: mostly where there is something."""
    for _ in range(chance.randrange(1, 6)):
        at = (
            chance.choice(victim.used)
            if chance.random() < 0.8
            else chance.randrange(len(victim.bytes))
        )
        victim.word(at, at + 64)


def offsets(victim: Victim, chance: random.Random) -> None:
    """The header or a copy of an entry, with its checksum."""
    size = LAYOUT["sizeof.bus_offset_entry"]
    for _ in range(chance.randrange(1, 4)):
        if chance.random() < 0.2:
            victim.word(0, 600)
            if chance.random() < 0.5:
                page = victim.now(0, LAYOUT["BUS_PAGE"])
                begin = LAYOUT["bus_offsets.bus_id"]
                victim.put(
                    LAYOUT["bus_offsets.header_crc"], struct.pack("<I", crc32c(page[begin:]))
                )
            continue
        at = LAYOUT["BUS_PAGE"] + chance.randrange(4) * size
        at += chance.choice([0, LAYOUT["BUS_PAGE"]])
        victim.word(at, at + 72)
        if chance.random() < 0.5:
            victim.put(at, struct.pack("<I", crc32c(victim.now(at, size)[4:])))
    if chance.random() < 0.1:
        victim.resize()


def json_file(seal: str) -> Callable[[Victim, random.Random], None]:
    """Values of a JSON file, sealed again half the time; or its text."""

    def damage(victim: Victim, chance: random.Random) -> None:
        if chance.random() < 0.3:
            victim.word(0, len(victim.bytes))
            return
        if chance.random() < 0.1:
            victim.replace(chance.choice([b"", b"[" * 100_000, b"{}", b"[]", b"null", b"\xff" * 9]))
            return
        value = json.loads(victim.bytes)
        for _ in range(chance.randrange(1, 3)):
            value[chance.choice([*value, "extra"])] = chance.choice(_ODD)
        try:
            sealed = twofold.encode(value, seal)
        except UnicodeEncodeError:  # half of a surrogate pair cannot be sealed
            sealed = json.dumps(value).encode()
        victim.replace(sealed if chance.random() < 0.7 else json.dumps(value).encode())

    return damage
