"""What a stage's worker sends: each output once, although the worker may die at any instant.

    for each output n:  send with (stage, topic, partition, offset, n)   ─►  then ack the record

A worker that dies between the two leaves outputs and a record that comes again. Whoever gets it
then looks for its outputs, from the record's own time on, and sends only what is missing: a record
has one holder at a time, so nobody else sends the same ones. A record that comes for the first
time has none, and nobody looks. This assumes a handler that gives the same outputs, or as many, at
each attempt; a clock that was not set back between the record and its outputs; and outputs that
retention has not removed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import bus
from bus import ConsumerRecord
from workers.pipeline.coordinates import FROM, Coordinates, Header, Place, coordinates_of
from workers.pipeline.values import Format

#: A send that finds no room is tried again after so long; in between the stage says so.
SLICE_MS: Final = 100
_POLL_RECORDS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a handler may return or yield in place of a value, to say more about it.

    key: of the record; without it, that of the record that is worked on. headers: (name, bytes).
    """

    value: Any
    key: bytes | None = None
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Where the outputs of a stage go. `topic` None: nowhere, nobody wants them."""

    address: str
    stage: str
    group: str
    topic: str | None
    values: Format | None
    #: each output is on disk before its record is acknowledged
    durable: bool
    #: a broker may be started if there is none
    autostart: bool


class Outlet:
    """Sends the outputs of one worker."""

    def __init__(self, drain: Drain, slice_ms: int = SLICE_MS) -> None:
        self._drain = drain
        self._producer: bus.Producer | None = None
        if drain.topic is not None:
            self._producer = bus.Producer(
                drain.address,
                client_id=drain.stage,
                acks="all" if drain.durable else 1,
                value_serializer=drain.values,
                max_block_ms=slice_ms,
                autostart=drain.autostart,
            )

    def offer(self, output: Any, key: bytes | None, headers: list[Header]) -> None:
        """Sends it if there is room within a moment. Raises BackpressureError, with who holds up.

        Without a topic nothing is done.
        """
        topic = self._drain.topic
        if self._producer is None or topic is None:
            return
        if isinstance(output, Output):
            headers = [*headers, *output.headers]
            key = key if output.key is None else output.key
            output = output.value
        future = self._producer.send(topic, output, key, headers)
        if self._drain.durable:
            future.get()

    def header(self, place: Place, n: int) -> Header:
        """Says whose output it is."""
        return FROM, Coordinates(self._drain.stage, place, n).to_bytes()

    @property
    def address(self) -> str:
        """The bus."""
        return self._drain.address

    def sent_for(self, record: ConsumerRecord) -> set[int]:
        """Which outputs of this record are in the topic already."""
        place = Place(record.topic, record.partition, record.offset)
        found = map(coordinates_of, self.sent_since(record.timestamp))
        return {one.n for one in found if one is not None and one.place == place}

    def sent_since(self, timestamp_ms: int) -> Iterator[list[Header]]:
        """The headers of what workers of this stage have sent since that time."""
        topic = self._drain.topic
        if topic is None:
            return
        with bus.Consumer(bootstrap_servers=self._drain.address) as consumer:
            for record in _records_since(consumer, topic, timestamp_ms):
                coordinates = coordinates_of(record.headers)
                if coordinates is not None and coordinates.stage == self._drain.stage:
                    yield record.headers

    def close(self) -> None:
        """Ends the producer."""
        if self._producer is not None:
            self._producer.close()


def _records_since(
    consumer: bus.Consumer, topic: str, timestamp_ms: int
) -> Iterator[ConsumerRecord]:
    """All records of a topic that were written since, up to its present end."""
    places = [
        bus.TopicPartition(topic, number)
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    consumer.assign(places)
    starts = consumer.offsets_for_times(dict.fromkeys(places, timestamp_ms))
    ends = consumer.end_offsets(places)
    left = {place for place in places if starts[place] is not None}
    for place in places:
        start = starts[place]
        consumer.seek(place, ends[place] if start is None else start.offset)
    while left:
        for records in consumer.poll(max_records=_POLL_RECORDS).values():
            yield from records
        left = {place for place in left if consumer.position(place) < ends[place]}
