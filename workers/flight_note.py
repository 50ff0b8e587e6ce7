"""A note of one attempt, in bytes: what the records of a flight topic are made of.

    0   u16  length of the note        12  u64  offset
    2   u8   outcome                   20  u64  begun, ns since 1970
    3   u8   attempt, at most 255      28  u64  took, ns
    4   u16  place of the topic in     36  u64  CPU time, ns; 0: not known
             the record's list         44       text, UTF-8
    8   u32  partition

Little-endian. A record of the topic holds the notes of one worker, one after the other, and the
headers `pid` (of the worker) and `topics` (a JSON list).
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from workers.attempts import Outcome
from workers.letters import Header

HEAD: Final = struct.Struct("<HBBHxxIQQQQ")
_PLACE: Final = struct.Struct("<IQ")
#: What is kept of an exception and what came of it.
TEXT_BYTES_MAX: Final = 400
ATTEMPT_MAX: Final = 255
#: outcomes by their number, for notes of a version that knows fewer of them
_KNOWN: Final = frozenset(Outcome)


@dataclass(frozen=True, slots=True)
class Note:
    """One attempt at a record, or what else became of it; see Outcome."""

    topic: str
    partition: int
    offset: int
    outcome: Outcome
    attempt: int
    begun_ns: int
    took_ns: int
    cpu_ns: int
    text: str
    pid: int


def packed(
    outcome: int,
    attempt: int,
    topic: int,
    partition: int,
    offset: int,
    begun_ns: int,
    took_ns: int,
    cpu_ns: int,
    text: str = "",
) -> bytes:
    """The bytes of a note."""
    tail = text.encode(errors="replace")[:TEXT_BYTES_MAX] if text else b""
    return (
        HEAD.pack(
            HEAD.size + len(tail),
            outcome,
            min(attempt, ATTEMPT_MAX),
            topic,
            partition,
            offset,
            begun_ns,
            took_ns,
            cpu_ns,
        )
        + tail
    )


def place(partition: int, offset: int) -> bytes:
    """The bytes that the notes on a record have in common, to look for."""
    return _PLACE.pack(partition, offset)


def headers(pid: int, topics: Sequence[str]) -> list[Header]:
    """The headers of a record of notes."""
    return [("pid", b"%d" % pid), ("topics", json.dumps(list(topics)).encode())]


def notes_in(value: bytes, headers: Sequence[Header]) -> Iterator[Note]:
    """The notes of a record; those that are of no known kind are passed over."""
    told = dict(headers)
    topics: list[str] = json.loads(told.get("topics") or b"[]")
    pid = int(told.get("pid") or 0)
    at = 0
    while at + HEAD.size <= len(value):
        length, outcome, attempt, topic, *numbers = HEAD.unpack_from(value, at)
        if length < HEAD.size:
            return  # not of this making
        if outcome in _KNOWN and topic < len(topics):
            text = value[at + HEAD.size : at + length].decode(errors="replace")
            partition, offset, begun_ns, took_ns, cpu_ns = numbers
            where = topics[topic], partition, offset
            times = begun_ns, took_ns, cpu_ns
            yield Note(*where, Outcome(outcome), attempt, *times, text, pid)
        at += length
