"""Sending dead letters again: to the topic that they came from, with all counts at zero.

    workers.redrive("dlq.orders.shop", only=lambda letter: letter.told["exception.type"] == "…")

The committed offset of the group `redrive.DLQ` says up to where letters were looked at, so each is
looked at once, and calling it again goes on where the last call ended. A record is sent before the
offset is committed: a death in between sends up to `BATCH` records twice. Letters are not removed;
their topic's retention does that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import bus
from workers.attempts import Outcome
from workers.errors import DeadLetterError
from workers.flight_moves import FlightMoves
from workers.letters import Source, original_headers, source_of, told_of

#: Letters that are sent between two commits.
BATCH: Final = 500
SEND_TIMEOUT_S: Final = 60.0
_POLL_MS: Final = 200.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter to decide about: the record, where it came from, and what its headers say."""

    record: Any
    source: Source
    told: dict[str, str]


@dataclass(frozen=True, slots=True)
class Redriven:
    """What `redrive` did: how many records were sent again, and how many letters were left."""

    sent: int
    left: int


def redrive(
    dead_letter_topic: str,
    *,
    bootstrap_servers: str | None = None,
    only: Callable[[DeadLetter], bool] | None = None,
    limit: int | None = None,
    to_topic: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Redriven:
    """Sends the records of dead letters again, up to the present end of their topic.

    only: says of each letter whether it is sent; the others are passed over for good.
    limit: at most so many letters are looked at. to_topic: the topic to send to, instead of the
    one that a record came from. progress: called with the count of letters that were looked at.

    Raises DeadLetterError for a record that is no dead letter of a pool, and the bus's errors.
    """
    group = f"redrive.{dead_letter_topic}"
    place = bus.TopicPartition(dead_letter_topic, 0)
    with (
        bus.Producer(bootstrap_servers, client_id="redrive", acks="all") as producer,
        bus.Consumer(
            bootstrap_servers=bootstrap_servers,
            group_id=group,
            client_id="redrive",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        ) as consumer,
    ):
        consumer.assign([place])
        moves = FlightMoves(bootstrap_servers, producer, Outcome.REDRIVEN)
        run = _Run(producer, consumer, place, only, to_topic, moves)
        return run.all(limit, progress)


class _Run:
    def __init__(
        self,
        producer: bus.Producer,
        consumer: bus.Consumer,
        place: bus.TopicPartition,
        only: Callable[[DeadLetter], bool] | None,
        to_topic: str | None,
        moves: FlightMoves,
    ) -> None:
        self._moves = moves
        self._producer = producer
        self._consumer = consumer
        self._place = place
        self._only = only
        self._to_topic = to_topic
        self._sent = 0
        self._left = 0

    def all(self, limit: int | None, progress: Callable[[int], None] | None) -> Redriven:
        consumer, place = self._consumer, self._place
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            seen = self._sent + self._left
            most = BATCH if limit is None else min(BATCH, limit - seen)
            if most <= 0:
                break
            batch = consumer.poll(_POLL_MS, max_records=most).get(place, [])
            self._send([record for record in batch if record.offset < end])
            if progress is not None:
                progress(self._sent + self._left)
        return Redriven(self._sent, self._left)

    def _send(self, batch: list[Any]) -> None:
        futures = []
        letters = []
        for record in batch:
            letter = DeadLetter(record, source_of(record.headers), told_of(record.headers))
            if self._only is not None and not self._only(letter):
                self._left += 1
                continue
            futures.append(self._producer.send(**self._again(letter)))
            letters.append(letter)
            self._sent += 1
        for letter, future in zip(letters, futures, strict=True):
            sent = future.get(SEND_TIMEOUT_S)
            self._moves.note(letter.told.get("group", ""), letter.source, sent)
        self._moves.send()
        if batch:
            offset = bus.OffsetAndMetadata(batch[-1].offset + 1, "")
            self._consumer.commit({self._place: offset})

    def _again(self, letter: DeadLetter) -> dict[str, Any]:
        """The record as it was; its key decides on the partition only if it goes elsewhere."""
        record, headers = letter.record, original_headers(letter.record.headers)
        elsewhere = self._to_topic not in (None, letter.source.topic)
        return {
            "topic": self._to_topic or letter.source.topic,
            "value": record.value,
            "key": record.key,
            "headers": headers,
            "partition": None if elsewhere else letter.source.partition,
        }


__all__ = ["DeadLetter", "DeadLetterError", "Redriven", "redrive"]
