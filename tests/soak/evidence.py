"""The part of a history that tells about one violation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.soak.analysis.facts import Violation
from tests.soak.history import (
    ACTION,
    COMMIT,
    DURABLE,
    GOT,
    KILLED,
    LOSS,
    REFUSED,
    SAMPLE,
    SEND,
    START,
    STORED,
    events,
)

LINES_MAX: Final = 60
#: Actions of the nemesis so long before and after the other lines count as well, in ns.
_AROUND_NS: Final = 3_000_000_000
_WIDTH: Final = 300


def evidence(diaries: Path, violation: Violation) -> str:
    """The events about the record or place, and what the nemesis did around them, in order."""
    about, harm = [], []
    for event in events(diaries):
        if event[0] in (ACTION, KILLED, LOSS):
            harm.append(event)
        elif _tells(event, violation):
            about.append(event)
    if about:
        first = min(event[1] for event in about) - _AROUND_NS
        last = max(event[1] for event in about) + _AROUND_NS
        harm = [event for event in harm if first <= event[1] <= last]
    lines = sorted([*about, *harm], key=lambda event: int(event[1]))
    cut = lines[:LINES_MAX]
    return "\n".join(f"  {json.dumps(line)[:_WIDTH]}" for line in cut)


def _tells(event: list[Any], violation: Violation) -> bool:
    kind, _, *words = event
    if kind == SEND:
        who, _, _, first, count = words
        return any(p == who and first <= s < first + count for p, s in violation.names)
    if kind in (DURABLE, REFUSED):
        return any(p == words[0] and s in words[1] for p, s in violation.names)
    if kind == STORED:
        return any(p == words[0] and s == row[0] for p, s in violation.names for row in words[1])
    return violation.where is not None and any(
        where == violation.where and (offset is None or _holds(offset, count, violation))
        for where, offset, count in _places(kind, words)
    )


def _holds(offset: int, count: int, violation: Violation) -> bool:
    return violation.offset is None or offset <= violation.offset < offset + count


def _places(kind: str, words: list[Any]) -> Iterator[tuple[tuple[str, int], int | None, int]]:
    """Partition, first offset (None: any) and count of what an event is about."""
    if kind == GOT:
        topic, partition, first, names = words[2]
        yield (topic, partition), first, len(names)
    elif kind == START:
        yield (words[0], words[1]), words[2], 1
    elif kind == COMMIT:
        yield from (((row[0], row[1]), row[2], 1) for row in words[3])
    elif kind == SAMPLE:
        yield (words[1], words[2]), words[3], 1
