"""Somebody who reads what is durable, and remembers it.

A record below the high watermark was acknowledged, or could have been: whoever waited for it with
acks="all" has its answer. It must be there for ever, with the same offset and the same bytes.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import bus
from bus.errors import BrokerNotRunningError, BusError
from bus.native.core import ConsumerRecord
from bus.structs import TopicPartition

Seen = dict[TopicPartition, dict[int, bytes]]

#: Longest wait for the next record of a log that is being read to its end, in milliseconds.
_NEXT_MS = 20_000.0


def digest(key: bytes | None, value: bytes) -> bytes:
    """Key and value, short."""
    return blake2b((key or b"") + b"\0" + value, digest_size=12).digest()


class Witness:
    """Attached to a bus while others are killed.

    Attributes: `seen` (digests by partition and offset), `path` (of the bus directory).
    """

    def __init__(self, path: Path, pattern: str) -> None:
        self.seen: Seen = {}
        self._pattern = pattern
        self.path = path
        self._consumer: bus.Consumer | None = None

    def look(self, timeout_ms: float) -> int:
        """Remember what has become durable since; how many records that was.

        A bus that is not there yet, or that was stopped, shows nothing.
        """
        try:
            return self._take(self._attached().poll(timeout_ms=timeout_ms).values())
        except BusError:
            # The broker is dead or ending. What was seen stays; a new look attaches again.
            self.close()
            return 0

    def _take(self, batches: Iterable[list[ConsumerRecord]]) -> int:
        count = 0
        for batch in batches:
            for record in batch:
                self._remember(record)
                count += 1
        return count

    def _remember(self, record: ConsumerRecord) -> None:
        seen = self.seen.setdefault(TopicPartition(record.topic, record.partition), {})
        found = digest(record.key, record.value)
        known = seen.setdefault(record.offset, found)
        assert known == found, f"{record.topic}-{record.partition} changed at {record.offset}"

    def _attached(self) -> bus.Consumer:
        if self._consumer is None:
            consumer = bus.Consumer(
                bootstrap_servers=self.path,
                client_id="witness",
                auto_offset_reset="earliest",
                read_until="durable",
                autostart=False,
            )
            try:
                consumer.subscribe(pattern=re.compile(self._pattern))
            except BaseException:
                consumer.close()
                raise
            self._consumer = consumer
        return self._consumer

    @property
    def count(self) -> int:
        """Records seen so far."""
        return sum(len(offsets) for offsets in self.seen.values())

    def close(self) -> None:
        """Leave the bus; what was seen stays."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(BrokerNotRunningError):
                consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Stored(NamedTuple):
    """A record as it was read back; it pins no segment."""

    offset: int
    key: bytes | None
    value: bytes

    @property
    def digest(self) -> bytes:
        return digest(self.key, self.value)


def read_all(path: Path, topics: Iterable[str]) -> dict[TopicPartition, list[Stored]]:
    """Every record of these topics, in the order of the offsets; a broker is started if need be.

    Fails if a record below the end does not come.
    """
    records: dict[TopicPartition, list[Stored]] = {}
    with bus.Consumer(bootstrap_servers=path, client_id="auditor") as consumer:
        for topic in topics:
            for number in sorted(consumer.partitions_for_topic(topic) or ()):
                partition = TopicPartition(topic, number)
                records[partition] = _read_partition(consumer, partition)
    return records


def _read_partition(consumer: bus.Consumer, partition: TopicPartition) -> list[Stored]:
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    records: list[Stored] = []
    while (position := consumer.position(partition)) < end:
        polled = consumer.poll(timeout_ms=_NEXT_MS).get(partition, [])
        moved = consumer.position(partition) > position  # a gap holds no record
        assert polled or moved, f"{partition} ends at {end}, nothing comes at {position}"
        records += [Stored(one.offset, one.key, one.value) for one in polled]
    return records


def missing(seen: Seen, records: dict[TopicPartition, list[Stored]]) -> list[str]:
    """What was seen as durable and is not there any more, or not the same; as sentences."""
    wrong = []
    for partition, offsets in seen.items():
        there = {record.offset: record.digest for record in records.get(partition, [])}
        for offset, expected in sorted(offsets.items()):
            if there.get(offset) != expected:
                what = "differs" if offset in there else "is gone"
                wrong.append(f"{partition.topic}-{partition.partition}: offset {offset} {what}")
    return wrong
