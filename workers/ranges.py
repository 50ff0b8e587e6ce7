"""Ranges of a topic: between offsets, or between times."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import bus
from bus.errors import UnknownTopicOrPartitionError
from workers.errors import ReplayError
from workers.letters import Source

#: An offset, or a time; one without a zone is local.
Position = int | datetime
_POLL_MS: Final = 200.0
_POLL_RECORDS: Final = 500


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets of one partition, from `first` to `end`, which is not of them."""

    where: bus.TopicPartition
    first: int
    end: int

    @property
    def count(self) -> int:
        """How many offsets it has."""
        return max(0, self.end - self.first)

    def up_to(self, end: int) -> "Span":
        """It ends there, or where it ended before."""
        return replace(self, end=min(self.end, end))

    def holds(self, source: Source) -> bool:
        """True if the record is one of them."""
        here = bus.TopicPartition(source.topic, source.partition) == self.where
        return here and self.first <= source.offset < self.end


def spans(
    consumer: bus.Consumer,
    topic: str,
    start: Position | None,
    end: Position | None,
    partition: int | None,
) -> list[Span]:
    """The range in each partition, as far as there are records now.

    Raises ReplayError for offsets without a partition, and UnknownTopicOrPartitionError.
    """
    numbers = sorted(consumer.partitions_for_topic(topic) or ())
    if not numbers or (partition is not None and partition not in numbers):
        what = f"partition {partition} of topic" if numbers else "topic"
        raise UnknownTopicOrPartitionError(f"{what} {topic!r} does not exist")
    chosen = numbers if partition is None else [partition]
    if len(chosen) > 1 and (isinstance(start, int) or isinstance(end, int)):
        raise ReplayError(
            f"topic {topic!r} has {len(numbers)} partitions: say which one the offsets are of"
            " (partition, --partition), or give times"
        )
    places = [bus.TopicPartition(topic, number) for number in chosen]
    firsts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    return [
        Span(
            where,
            _offset(consumer, where, start, firsts[where], ends[where]),
            _offset(consumer, where, ends[where] if end is None else end, 0, ends[where]),
        )
        for where in places
    ]


def _offset(
    consumer: bus.Consumer, where: bus.TopicPartition, at: Position | None, first: int, end: int
) -> int:
    """The offset of a position, not before `first` and not behind `end`."""
    if at is None:
        return first
    if isinstance(at, int):
        return min(max(at, first), end)
    found = consumer.offsets_for_times({where: int(at.timestamp() * 1000)})[where]
    return end if found is None else max(found.offset, first)


def records_in(consumer: bus.Consumer, span: Span) -> Iterator[Any]:
    """The records of a span, in the order of their offsets."""
    if not span.count:
        return
    consumer.assign([span.where])
    consumer.seek(span.where, span.first)
    while consumer.position(span.where) < span.end:
        for record in consumer.poll(_POLL_MS, max_records=_POLL_RECORDS).get(span.where, []):
            if record.offset >= span.end:
                return
            yield record
