"""What the workers of a stage with `batch` call: the user's function with a list of values.

All outputs of a batch are made before the first is sent, so one that fails leaves none, and its
records are tried one by one. A worker that dies while it sends them leaves some. The first of them
says how many there are and of which records, so whoever gets one of those records again knows:

    all outputs are there    it is done
    some are missing         who has the first record of the batch makes them again, from the same
                             records, and sends those; who has another one waits for that
    none is there            it is worked on alone
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import bus
from bus import ConsumerRecord
from workers.current_task import current
from workers.dead_letters import DeadLetters
from workers.errors import TaskPostponed
from workers.letters import Source
from workers.pipeline.coordinates import Header, Place, coordinates_of, value_of
from workers.pipeline.stage_work import Bench, Sending, StageWork

#: Header of a batch's first output: M TOPIC PARTITION OFFSET TOPIC PARTITION OFFSET …
BATCH: Final = "pipeline.batch"
#: A record whose batch is to be completed by the holder of another one comes again after this.
WAIT_MS: Final = 100.0
_READ_MS: Final = 10_000


@dataclass
class Batch:
    """Outputs that an attempt at several records has left: `sent` of `count`."""

    members: tuple[Place, ...]
    count: int
    sent: set[int] = field(default_factory=set)

    @property
    def leader(self) -> Place:
        """The record whose outputs they count as."""
        return self.members[0]

    @property
    def is_complete(self) -> bool:
        return len(self.sent) == self.count

    def to_bytes(self) -> bytes:
        """As it stands in the header."""
        words = [str(self.count)]
        for place in self.members:
            words += [place.topic, str(place.partition), str(place.offset)]
        return " ".join(words).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "Batch":
        """Of the header."""
        count, *words = text.decode().split(" ")
        members = zip(words[::3], words[1::3], words[2::3], strict=True)
        return cls(
            tuple(Place(one, int(two), int(three)) for one, two, three in members), int(count)
        )


def place_of(record: ConsumerRecord) -> Place:
    """Where a record stands."""
    return Place(record.topic, record.partition, record.offset)


class BatchStageWork(StageWork):
    """The handler of a stage that takes several values at once."""

    def __call__(self, records: Any, bench: Bench) -> None:
        """Works on a batch, or alone on a record that was given out before."""
        first = records[0]
        if len(records) == 1 and current().attempt > 1:
            self._again(first, bench)
            return
        self._work(records, bench, set())

    def _again(self, record: ConsumerRecord, bench: Bench) -> None:
        place = place_of(record)
        batch = _batch_of(bench, record)
        if batch is None or (batch.leader != place and self._is_given_up(batch.leader, record)):
            self._work([record], bench, bench.outlet.sent_for(record))
        elif batch.leader == place and not batch.is_complete:
            self._work(_records_at(bench, batch.members), bench, batch.sent)
        elif not batch.is_complete:
            raise TaskPostponed("its batch is completed by another worker", WAIT_MS)

    def _work(self, records: list[ConsumerRecord], bench: Bench, sent: set[int]) -> None:
        outputs = _collected(bench.call([bench.read[one.topic](one) for one in records]))
        members = tuple(place_of(record) for record in records)
        header = (BATCH, Batch(members, len(outputs)).to_bytes())
        sending = _BatchSending(bench, records[0], sent, header if len(records) > 1 else None)
        for output in outputs:
            sending.send(output)

    def _is_given_up(self, leader: Place, record: ConsumerRecord) -> bool:
        """The one who should complete the batch never will."""
        drain = self.plan.drain
        letters = DeadLetters(drain.address, leader.topic, drain.group)
        return letters.holds(Source(*leader), record.timestamp)


class _BatchSending(Sending):
    """The outputs of a batch count as those of its first record."""

    def __init__(
        self, bench: Bench, first: ConsumerRecord, sent: set[int], header: Header | None
    ) -> None:
        super().__init__(bench, first, current(), sent)
        self._header = header

    def _headers(self, n: int) -> list[Header]:
        headers = super()._headers(n)
        if n == 0 and self._header is not None:
            headers.append(self._header)
        return headers


def _collected(made: Any) -> list[Any]:
    if made is None:
        return []
    return list(made) if isinstance(made, Iterator) else [made]


def _batch_of(bench: Bench, record: ConsumerRecord) -> Batch | None:
    """The batch of an earlier attempt that has left outputs, and this record was in it."""
    place, found = place_of(record), None
    # the first output of a batch is written after all of its records, and before its others
    for headers in bench.outlet.sent_since(record.timestamp):
        text = value_of(headers, BATCH)
        if text is not None and place in (batch := Batch.from_bytes(text)).members:
            found = batch
        coordinates = coordinates_of(headers)
        if found is not None and coordinates and coordinates.place == found.leader:
            found.sent.add(coordinates.n)
    return found


def _records_at(bench: Bench, places: tuple[Place, ...]) -> list[ConsumerRecord]:
    """Records that were not acknowledged, so they are there."""
    found = []
    with bus.Consumer(bootstrap_servers=bench.outlet.address) as consumer:
        consumer.assign({bus.TopicPartition(one.topic, one.partition) for one in places})
        for place in places:
            partition = bus.TopicPartition(place.topic, place.partition)
            consumer.pause(*consumer.assignment())
            consumer.resume(partition)
            consumer.seek(partition, place.offset)
            [record] = consumer.poll(_READ_MS, max_records=1)[partition]
            found.append(record)
    return found
