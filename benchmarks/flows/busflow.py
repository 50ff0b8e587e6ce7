"""The bus itself, by its public names: `Producer.send` and iteration over a `Consumer`."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import bus
from benchmarks.flows.base import IN_PLACE_BYTES, BatchFlow, touch

#: Longer than any wait of a benchmark: the consumer then never goes to sleep.
SPIN_US = 10_000_000
POLL_MS = 10_000
#: Records that one poll may return, where they are taken by `poll`.
POLL_RECORDS = 2000

_numbers = itertools.count(1)


class BusFlow(BatchFlow):
    """One partition of a topic with `durability=memory`, lossless (`overflow=block`)."""

    name: ClassVar[str] = "bus"
    #: Once around the ring of 64 MiB, so that its pages are warm when the clock starts.
    warm_bytes: ClassVar[int] = 64 << 20

    def __init__(
        self, record_bytes: int, path: Path, *, spin: bool = False, durability: str = "memory"
    ) -> None:
        super().__init__(record_bytes, spin=spin)
        self._path = path
        self._durability = durability

    def open(self) -> None:
        self._topic = f"flow-{next(_numbers)}"
        configs = {"durability": self._durability}
        with bus.Admin(self._path) as admin:
            admin.create_topics([bus.NewTopic(self._topic, topic_configs=configs)])

    def close(self) -> None:
        with bus.Admin(self._path) as admin:
            admin.delete_topics([self._topic])

    def attach_sender(self) -> None:
        self._producer = bus.Producer(self._path, acks=1, client_id="bench-producer")
        self._producer.partitions_for(self._topic)

    def attach_receiver(self) -> None:
        self._consumer = bus.Consumer(
            bootstrap_servers=self._path,
            client_id="bench-consumer",
            auto_offset_reset="earliest",
            spin_us=SPIN_US if self.spin else 0,
            max_poll_records=POLL_RECORDS,
        )
        self._consumer.assign([bus.TopicPartition(self._topic, 0)])
        self._consumer.seek_to_beginning()
        self._consumer.poll(0)
        self._records: Iterator[bus.ConsumerRecord] = iter(self._consumer)

    def detach(self) -> None:
        for handle in ("_producer", "_consumer"):
            if hasattr(self, handle):
                getattr(self, handle).close()

    def send_one(self, payload: bytes) -> object:
        return self._producer.send(self._topic, payload)

    def send(self, payload: bytes, count: int) -> None:
        send, topic = self._producer.send, self._topic
        for _ in range(count):
            send(topic, payload)

    def receive_one(self) -> int:
        return len(next(self._records).value)

    def receive(self, count: int) -> int:
        records = itertools.islice(self._consumer, count)
        if self.record_bytes >= IN_PLACE_BYTES:
            return sum(touch(record.view()) for record in records)
        total = 0
        for record in records:
            total += len(record.value)
        return total

    def send_batches(self, payload: bytes, count: int, batch: int) -> None:
        send_many, topic = self._producer.send_many, self._topic
        for _ in range(count // batch):
            send_many(topic, [payload] * batch)

    def receive_batches(self, count: int) -> int:
        poll = self._consumer.poll
        seen = total = 0
        while seen < count:
            for records in poll(POLL_MS).values():
                for record in records:
                    total += len(record.value)
                seen += len(records)
        return total
