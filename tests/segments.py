"""Bus files written by hand, byte by byte from the layout's page, not by the code under test."""

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUS_ID = 0x0123456789ABCDEF
DATA_START = 12288
SEGMENT_BYTES = 1 << 20
INDEX_AT = 4096
INDEX_RANGE = SEGMENT_BYTES // 512
SEED = 0x5EED5EED12345678
NO_TIMESTAMP = -(2**63)
TIME_NS = 1_700_000_000_000_000_000

RECORD, PAD, END = 0, 1, 2
NULL_KEY, NULL_VALUE, ALIGNED = 0x0080, 0x0100, 0x0200

#: Where the fields of a segment's header stand.
HEADER_FIELDS = {
    "magic": (0, "<Q"),
    "version": (8, "<I"),
    "header_crc": (12, "<I"),
    "bus_id": (16, "<Q"),
    "topic_id": (24, "<Q"),
    "partition": (32, "<I"),
    "data_start": (36, "<I"),
    "number": (40, "<Q"),
    "base_offset": (48, "<Q"),
    "previous_end": (56, "<Q"),
    "bytes": (64, "<Q"),
    "created_ns": (72, "<q"),
    "seed": (80, "<Q"),
    "end_offset": (128, "<Q"),
    "end_position": (136, "<Q"),
    "max_timestamp": (144, "<q"),
}
#: Where the fields of a frame stand.
FRAME_FIELDS = {
    "size": (0, "<I"),
    "crc": (4, "<I"),
    "offset": (8, "<Q"),
    "timestamp": (16, "<q"),
    "value_length": (24, "<I"),
    "attributes": (28, "<H"),
    "headers_length": (30, "<H"),
    "key_length": (32, "<I"),
    "sequence": (36, "<I"),
    "producer": (40, "<Q"),
}


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, as in RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def aligned(number: int, step: int = 8) -> int:
    return -(-number // step) * step


def frame(
    position: int,
    offset: int,
    *,
    key: bytes = b"",
    value: bytes = b"",
    headers: bytes = b"",
    timestamp: int = TIME_NS,
    attributes: int = RECORD,
    producer: int = 0,
) -> bytes:
    """A valid frame that stands at `position` of a segment with seed SEED."""
    body_at = position + 48
    value_at = aligned(body_at + len(key) + len(headers), 64 if attributes & ALIGNED else 8)
    size = aligned(value_at + len(value)) - position
    rest = struct.pack(
        "<QqIHHIIQ", offset, timestamp, len(value), attributes, len(headers), len(key), 0, producer
    )
    first = struct.pack("<I", size)
    crc = crc32c(key + headers + value + first + rest + struct.pack("<Q", SEED))
    body = (key + headers).ljust(value_at - body_at, b"\0") + value
    return (first + struct.pack("<I", crc) + rest + body).ljust(size, b"\0")


def end_frame(position: int, next_offset: int, next_number: int) -> bytes:
    return frame(
        position,
        next_offset,
        timestamp=0,
        attributes=END | NULL_KEY | NULL_VALUE,
        producer=next_number,
    )


@dataclass
class Segment:
    """A segment being written; `data` are its bytes."""

    data: bytearray
    position: int
    next_offset: int
    number: int
    max_timestamp: int = NO_TIMESTAMP

    @classmethod
    def begin(
        cls,
        *,
        number: int = 1,
        base: int = 0,
        previous_end: int | None = None,
        topic: int = 1,
        partition: int = 0,
    ) -> "Segment":
        segment = cls(bytearray(SEGMENT_BYTES), DATA_START, base, number)
        values = {
            "magic": 0x3130676553737542,
            "version": 1,
            "bus_id": BUS_ID,
            "topic_id": topic,
            "partition": partition,
            "data_start": DATA_START,
            "number": number,
            "base_offset": base,
            "previous_end": base if previous_end is None else previous_end,
            "bytes": SEGMENT_BYTES,
            "created_ns": TIME_NS,
            "seed": SEED,
            "max_timestamp": NO_TIMESTAMP,
        }
        for name, value in values.items():
            segment.set(name, value)
        segment.sign()
        return segment

    def set(self, name: str, value: int) -> None:
        at, code = HEADER_FIELDS[name]
        struct.pack_into(code, self.data, at, value)

    def sign(self) -> None:
        self.set("header_crc", crc32c(bytes(self.data[16:88])))

    def append(self, **fields: bytes | int) -> int:
        """Append a record; its position. Its range of the file gets an index entry."""
        position = self.position
        self.index(position)
        timestamp = fields.get("timestamp", TIME_NS)
        self._write(frame(position, self.next_offset, **fields))  # type: ignore[arg-type]
        assert isinstance(timestamp, int)
        self.max_timestamp = max(self.max_timestamp, timestamp)
        self.next_offset += 1
        return position

    def index(self, position: int) -> None:
        at = INDEX_AT + 16 * (position // INDEX_RANGE)
        if struct.unpack_from("<I", self.data, at)[0] == 0:
            base = struct.unpack_from("<Q", self.data, 48)[0]
            entry = (position, self.next_offset - base, self.max_timestamp)
            struct.pack_into("<IIq", self.data, at, *entry)

    def seal(self) -> None:
        """Write the end frame and the seal."""
        self.set("end_offset", self.next_offset)
        self.set("end_position", self.position)
        self.set("max_timestamp", self.max_timestamp)
        self.data[self.position : self.position + 48] = end_frame(
            self.position, self.next_offset, self.number + 1
        )

    def _write(self, data: bytes) -> None:
        self.data[self.position : self.position + len(data)] = data
        self.position += len(data)


def filled(records: int = 3, **begin: int) -> Segment:
    segment = Segment.begin(**begin)
    for number in range(records):
        segment.append(key=b"key", value=b"value %d" % number, timestamp=TIME_NS + number)
    return segment


def write_bus(root: Path, *, configs: dict[str, str] | None = None) -> Path:
    """A stopped bus with topic "t" (id 1) of one partition, without segments: its directory."""
    partition = root / "topics" / "t" / "0"
    partition.mkdir(parents=True)
    (root / "groups").mkdir()
    for directory in (root, root / "topics", root / "topics" / "t", partition, root / "groups"):
        directory.chmod(0o700)
    identity = {"format": 1, "bus_id": f"{BUS_ID:016x}", "created": "2026-01-01T00:00:00+00:00"}
    write_truth(root, "bus.json", identity)
    topic = {"id": 1, "name": "t", "partitions": 1, "configs": configs or {}}
    write_truth(root, "topics/t/topic.json", topic)
    write_truth(root, "epoch", {"epoch": 1})
    write_truth(root, "next_id", {"next_id": 2})
    write_state(root, None)
    return partition


def write_state(
    root: Path, clean_end: tuple[int, int] | None, *, start: int = 0, limit: int = 1 << 24
) -> None:
    end = None if clean_end is None else {"offset": clean_end[0], "number": clean_end[1]}
    state = {
        "log_start_offset": start,
        "offset_limit": limit,
        "clean_end": end,
        "durable_end": None,
    }
    write_truth(root, "topics/t/0/state.json", state)


def write_segments(partition: Path, *segments: Segment) -> list[Path]:
    paths = []
    for segment in segments:
        base = struct.unpack_from("<Q", segment.data, 48)[0]
        paths.append(partition / f"{base:020d}.log")
        paths[-1].write_bytes(segment.data)
    return paths


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
    path.chmod(0o600)


def write_truth(root: Path, relative: str, value: dict[str, Any]) -> None:
    """A small file of truth and its copy: the checksum covers whose it is and what it says."""
    seal = relative if relative == "bus.json" else f"{BUS_ID:016x}/{relative}"
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    crc = f"{zlib.crc32((seal + text).encode()):08x}"
    for name in (relative, f"{relative}.copy"):
        write_json(root / name, {**value, "crc": crc})


def offset_entry(
    *, offset: int, sequence: int, topic: int = 1, partition: int = 0, metadata: bytes = b""
) -> bytes:
    """One copy of a committed offset, 256 bytes."""
    body = struct.pack(
        "<IIIQqQq16x", topic, partition, len(metadata), sequence, offset, 1, TIME_NS
    ) + metadata.ljust(192, b"\0")
    return struct.pack("<I", crc32c(body)) + body


def write_offsets(root: Path, group: str, *copies: tuple[bytes, bytes]) -> Path:
    """The offsets file of a group with up to 16 entries, each as its two copies."""
    header = bytearray(4096)
    struct.pack_into("<Q", header, 0, 0x3130736F50737542)
    struct.pack_into("<I", header, 8, 1)
    struct.pack_into("<QQI", header, 16, BUS_ID, 1, len(group))
    header[40 : 40 + len(group)] = group.encode()
    struct.pack_into("<I", header, 12, crc32c(bytes(header[16:])))
    pages = [bytearray(4096), bytearray(4096)]
    for slot, pair in enumerate(copies):
        for page, copy in zip(pages, pair, strict=True):
            page[slot * 256 : slot * 256 + len(copy)] = copy
    path = root / "groups" / f"{group}.offsets"
    path.write_bytes(header + pages[0] + pages[1])
    path.chmod(0o600)
    return path
