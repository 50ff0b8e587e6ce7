"""Dead letters: records that are given up, kept in a topic with all that is known of them.

`dlq.TOPIC.GROUP` holds the record as it was (key, value, headers), followed by headers that begin
with "dlq.": where it came from, why it was given up, how often it was tried, and the exception.
Numbers are decimal text.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from workers.errors import DeadLetterError
from workers.exits import Exit
from workers.remote import ToldException
from workers.retry import Counts

PREFIX: Final = "dlq."
Header = tuple[str, bytes | None]


def topic_of(topic: str, group: str) -> str:
    """The topic of the dead letters of a group; what a topic's name may not hold becomes "-"."""
    return f"dlq.{topic}.{safe_name(group)}"


def safe_name(group: str) -> str:
    """The name of a group as a part of a topic's."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in group)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """What is known of a record that is given up. `pid`: of the worker that tried it last."""

    source: Source
    group: str
    reason: str
    deliveries: int
    counts: Counts
    timestamp_ms: int
    pid: int
    exception: ToldException | None = None

    @classmethod
    def of(
        cls,
        record: Any,
        group: str,
        reason: str,
        *,
        deliveries: int,
        counts: Counts,
        error: BaseException | None = None,
        last_exit: Exit | None = None,
    ) -> Self:
        """The letter for a record of the bus."""
        told = None if error is None else ToldException.of(error, pickled=False)
        if told is None and last_exit is not None:
            told = ToldException("workers.errors.WorkerDied", str(last_exit), "")
        return cls(
            Source(record.topic, record.partition, record.offset),
            group,
            reason,
            deliveries,
            counts,
            record.timestamp,
            os.getpid() if last_exit is None else last_exit.pid,
            told,
        )

    def headers(self, *, traceback_chars: int | None = None) -> list[Header]:
        """The headers that tell of it; with `traceback_chars`, the traceback's end alone."""
        source, counts = self.source, self.counts
        texts: dict[str, object] = {
            "topic": source.topic,
            "partition": source.partition,
            "offset": source.offset,
            "group": self.group,
            "reason": self.reason,
            "deliveries": self.deliveries,
            "failures": counts.failure,
            "timeouts": counts.timeout,
            "crashes": counts.crash,
            "ooms": counts.oom,
            "timestamp": self.timestamp_ms,
            "time": time.time_ns() // 1_000_000,
            "pid": self.pid,
        }
        if self.exception is not None:
            trace = self.exception.traceback
            if traceback_chars is not None:
                trace = trace[len(trace) - min(traceback_chars, len(trace)) :]
            texts["exception.type"] = self.exception.type_name
            texts["exception.text"] = self.exception.text[:traceback_chars]
            texts["exception.traceback"] = trace
        return [(PREFIX + name, _bytes(text)) for name, text in texts.items()]


def original_headers(headers: Sequence[Header]) -> list[Header]:
    """The headers that the record had before it was given up."""
    return [header for header in headers if not header[0].startswith(PREFIX)]


def told_of(headers: Iterable[Header]) -> dict[str, str]:
    """What the headers of a dead letter say, without the prefix; the last one of a name counts."""
    return {
        name.removeprefix(PREFIX): (value or b"").decode(errors="replace")
        for name, value in headers
        if name.startswith(PREFIX)
    }


def source_of(headers: Iterable[Header]) -> Source:
    """Where a dead letter came from. Raises DeadLetterError if it does not say."""
    told = told_of(headers)
    try:
        return Source(told["topic"], int(told["partition"]), int(told["offset"]))
    except (KeyError, ValueError) as error:
        raise DeadLetterError(f"no dead letter of a pool: its header {error} is missing") from error


def _bytes(value: object) -> bytes:
    return str(value).encode(errors="replace")
