"""What became of one record, and why: `workers.flight("orders", 0, 42, group="shop")`.

Put together from the flight record of the group (`Pool(flight_record=True)`), its dead letters,
its offsets, and the boards of workers that live. Reading it costs the workers nothing; all notes
that are kept are looked through.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import bus
from bus.errors import GroupIdNotFoundError
from workers.attempts import Outcome
from workers.errors import DeadLetterError, FlightRecordError
from workers.figures import TaskStatistics, statistics
from workers.flight_note import Note, notes_in, place
from workers.flight_topic import name_of
from workers.letters import Source, source_of, told_of
from workers.letters import topic_of as dead_letter_topic_of

_POLL_MS: Final = 200.0
_POLL_RECORDS: Final = 1000


@dataclass(frozen=True, slots=True)
class LetterOf:
    """The dead letter of a record: where it stands, and what its headers say."""

    topic: str
    offset: int
    told: dict[str, str]


@dataclass(frozen=True, slots=True)
class InHand:
    """A worker that has the record now."""

    pid: int
    running_s: float


@dataclass(frozen=True, slots=True)
class Flight:
    """The story of one record in one group.

    `sent_ns` is when it was sent (since 1970), None if it is no longer in its topic. `notes` are
    its attempts and what was done with it otherwise, the oldest first. `came_from` says of which
    record it is a redrive or a replay ("topic:partition:offset"), or "". `passed` is True if the
    group has passed it: it is done or given up, as all before it.
    """

    source: Source
    group: str
    sent_ns: int | None
    came_from: str
    notes: tuple[Note, ...]
    letters: tuple[LetterOf, ...]
    in_hand: tuple[InHand, ...]
    passed: bool

    @property
    def begun(self) -> int:
        """How often a handler was called with it."""
        return len({number for number, note in self.numbered() if _is_attempt(note)})

    def numbered(self) -> Iterator[tuple[int, Note]]:
        """The notes, each with the number of its attempt: the dead do not know theirs."""
        number, before = 0, None
        for note in self.notes:
            if note.attempt:
                number = note.attempt
            elif note.outcome is Outcome.DIED and not _ended_by(note, before):
                number += 1
            before = note
            yield number, note


def _ended_by(death: Note, before: Note | None) -> bool:
    """True if the handler had returned before its worker died: that was one attempt."""
    return before is not None and before.outcome is Outcome.DONE and before.pid == death.pid


def _is_attempt(note: Note) -> bool:
    return note.outcome < Outcome.GIVEN_UP or note.outcome is Outcome.DIED


def flight(
    topic: str,
    partition: int,
    offset: int,
    *,
    group: str,
    bootstrap_servers: str | None = None,
) -> Flight:
    """The story of a record of `topic` in a share group.

    Raises FlightRecordError if the group has no flight record, and the bus's errors.
    """
    source = Source(topic, partition, offset)
    where = bus.TopicPartition(topic, partition)
    with bus.Admin(bootstrap_servers) as admin:
        topics = admin.list_topics()
        committed = None
        with suppress(GroupIdNotFoundError):  # its first worker has not come yet
            committed = admin.list_group_offsets(group).get(group, {}).get(where)
    if name_of(group) not in topics:
        raise FlightRecordError(
            f"group {group!r} has no flight record; start its pool with flight_record=True, or"
            " `python -m workers run … --flight-record`"
        )
    reader = _Reader(bootstrap_servers, source)
    notes, came_from = reader.notes(name_of(group))
    letters = dead_letter_topic_of(topic, group)
    return Flight(
        source=source,
        group=group,
        sent_ns=reader.sent_ns() if topic in topics else None,
        came_from=came_from,
        notes=tuple(notes),
        letters=tuple(reader.letters(letters)) if letters in topics else (),
        in_hand=tuple(_in_hand(source, group)),
        passed=committed is not None and committed.offset > offset,
    )


class _Reader:
    def __init__(self, address: str | None, source: Source) -> None:
        self._address = address
        self._source = source

    def _records(self, topic: str, first: int | None = None) -> Iterator[Any]:
        """All of partition 0 up to its present end, or a record alone in the source's partition."""
        source = self._source
        where = bus.TopicPartition(topic, 0 if first is None else source.partition)
        with bus.Consumer(
            bootstrap_servers=self._address, client_id="flight", auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign([where])
            if first is None:
                consumer.seek_to_beginning()
                end = consumer.end_offsets([where])[where]
            else:
                consumer.seek(where, first)
                end = min(first + 1, consumer.end_offsets([where])[where])
            while consumer.position(where) < end:
                yield from consumer.poll(_POLL_MS, max_records=_POLL_RECORDS).get(where, [])

    def sent_ns(self) -> int | None:
        """When the record was sent; None if it is gone."""
        for record in self._records(self._source.topic, self._source.offset):
            return int(record.timestamp_ns) if record.offset == self._source.offset else None
        return None

    def notes(self, topic: str) -> tuple[list[Note], str]:
        """The notes on the record, in the order of their beginnings, and what it came from."""
        source, found, came_from = self._source, [], ""
        own = place(source.partition, source.offset)
        named = str(source).encode()
        for record in self._records(topic):
            value = record.value or b""
            if own not in value and named not in value:
                continue
            for note in notes_in(value, record.headers):
                if Source(note.topic, note.partition, note.offset) == source:
                    found.append(note)
                elif note.outcome in (Outcome.REDRIVEN, Outcome.REPLAYED) and note.text == str(
                    source
                ):
                    came_from = str(Source(note.topic, note.partition, note.offset))
        return sorted(found, key=lambda note: note.begun_ns), came_from

    def letters(self, topic: str) -> Iterator[LetterOf]:
        """The dead letters of the record."""
        for record in self._records(topic):
            with suppress(DeadLetterError):  # a letter of another making says nothing of ours
                if source_of(record.headers) == self._source:
                    yield LetterOf(topic, record.offset, told_of(record.headers))


def _in_hand(source: Source, group: str) -> Iterator[InHand]:
    for pool in statistics():
        if pool.description.get("group") == group:
            for worker in pool.workers:
                for task in worker.tasks:
                    if _source_of(task) == source:
                        yield InHand(worker.pid, task.running_s)


def _source_of(task: TaskStatistics) -> Source:
    return Source(task.topic, task.partition, task.offset)
