"""Notes that records were sent again: a redrive or a replay, as the flight record tells of it."""

import os
import time

import bus
from workers.attempts import Outcome
from workers.flight_note import headers, packed
from workers.flight_topic import name_of
from workers.letters import Source


class FlightMoves:
    """Notes moves of records for the groups that have a flight record; for the others, nothing."""

    def __init__(self, address: str | None, producer: bus.Producer, outcome: Outcome) -> None:
        self._producer = producer
        self._outcome = outcome
        with bus.Admin(address) as admin:
            self._topics = frozenset(admin.list_topics())
        self._waiting: dict[str, list[tuple[Source, str]]] = {}

    def note(self, group: str, source: Source, sent: bus.RecordMetadata) -> None:
        """A record was sent again; it is told with the next `send`."""
        if name_of(group) in self._topics:
            became = str(Source(sent.topic, sent.partition, sent.offset))
            self._waiting.setdefault(group, []).append((source, became))

    def send(self) -> None:
        """Sends what was noted. Raises the bus's errors."""
        now_ns = time.time_ns()
        futures = []
        for group, moves in self._waiting.items():
            topics = sorted({source.topic for source, _ in moves})
            notes = b"".join(
                packed(
                    self._outcome,
                    0,
                    topics.index(source.topic),
                    source.partition,
                    source.offset,
                    now_ns,
                    0,
                    0,
                    became,
                )
                for source, became in moves
            )
            told = headers(os.getpid(), topics)
            futures.append(self._producer.send(name_of(group), notes, headers=told))
        self._waiting.clear()
        for future in futures:
            future.get()
