"""Random operations against a list: what was sent is what is read, in order, across both tiers."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from bus.structs import TopicPartition
from tests.broker.rig import create_topic

MIB = 1 << 20
T0 = TopicPartition("t", 0)
STEPS = 250
SIZES = (0, 1, 7, 100, 1000, 1023, 1024, 1025, 4096, 65_536, 300_000, MIB, 2 * MIB)
ALIGNED_FROM = 1024
ALIGNMENT = 64
#: values are slices of it, so that the model keeps two numbers for each
POOL = random.Random(1).randbytes(4 * MIB)


@dataclass(frozen=True)
class Sent:
    """One record as the model remembers it."""

    key: bytes | None
    start: int
    size: int | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int | None

    @property
    def value(self) -> bytes | None:
        return None if self.size is None else POOL[self.start : self.start + self.size]


class Model:
    """The real log, and a list that must be the same."""

    def __init__(self, path: Path, seed: int, *, waits: bool) -> None:
        self.random = random.Random(seed)
        self.producer = bus.Producer(path, acks=1, max_block_ms=3_000)
        self.consumer = bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest")
        self.consumer.assign([T0])
        self.sent: list[Sent] = []
        self.position = 0
        self.unread_bytes = 0
        #: a memory topic whose consumer must keep up, or the producer waits for it
        self.waits = waits

    def close(self) -> None:
        self.producer.close()
        self.consumer.close()

    # ---- operations

    def record(self) -> Sent:
        pick = self.random
        size = pick.choice(SIZES[:9]) if pick.random() < 0.9 else pick.choice(SIZES)
        return Sent(
            key=pick.choice([None, b"", b"key", pick.randbytes(pick.randrange(300))]),
            start=pick.randrange(len(POOL) - max(SIZES)),
            size=None if pick.random() < 0.1 else size,
            headers=pick.choice([(), (("a", b"1"),), (("ä", None), ("b", b""), ("b", b"x" * 900))]),
            timestamp=pick.choice([None, pick.randrange(1, 2**41)]),
        )

    def send(self) -> None:
        record = self.record()
        self.make_room(record.size or 0)
        future = self.producer.send(
            "t",
            record.value,
            key=record.key,
            headers=list(record.headers),
            timestamp_ms=record.timestamp,
        )
        assert future.offset == len(self.sent)
        self.sent.append(record)

    def send_many(self) -> None:
        size = self.random.choice((0, 50, 1024, 5000))
        count = self.random.choice((1, 2, 127, 128, 129, 400))
        starts = [self.random.randrange(MIB) for _ in range(count)]
        records = [Sent(None, start, size, (), None) for start in starts]
        self.make_room(size * count)
        future = self.producer.send_many("t", [record.value for record in records])
        self.sent += records
        assert future.offset == len(self.sent) - 1

    def make_room(self, size: int) -> None:
        self.unread_bytes += size + 1500
        if self.waits and self.unread_bytes > MIB:
            self.read_all()
            self.unread_bytes = size + 1500

    def seek(self) -> None:
        first = self.consumer.beginning_offsets([T0])[T0] if self.waits else 0
        self.position = self.random.randint(first, len(self.sent))
        self.consumer.seek(T0, self.position)

    def seek_to_end(self) -> None:
        self.consumer.seek_to_end()
        self.position = len(self.sent)

    def poll(self) -> None:
        most = self.random.choice((1, 3, 50, 500))
        for record in self.consumer.poll(0, max_records=most).get(T0, []):
            self.compare(record)

    def iterate(self) -> None:
        for _ in range(min(self.random.randrange(200), len(self.sent) - self.position)):
            self.compare(next(self.consumer))

    def read_all(self) -> None:
        while self.position < len(self.sent):
            before = self.position
            for record in self.consumer.poll(1000).get(T0, []):
                self.compare(record)
            assert self.position > before

    # ---- claims

    def compare(self, record: Any) -> None:
        assert record.offset == self.position, "offsets are contiguous"
        expected = self.sent[self.position]
        self.position += 1
        assert record.key == expected.key
        assert tuple(record.headers) == expected.headers
        if expected.timestamp is not None:
            assert record.timestamp == expected.timestamp
        if expected.size is None:
            assert record.value is None
            assert record.serialized_value_size == -1
            return
        assert bytes(record.view()) == expected.value
        assert record.serialized_value_size == expected.size
        if expected.size >= ALIGNED_FROM:
            assert address_of(record) % ALIGNMENT == 0

    def step(self) -> None:
        operations = [self.send] * 6 + [self.send_many, self.poll, self.iterate]
        if self.random.random() < 0.1:
            operations = [self.seek, self.seek_to_end]
        self.random.choice(operations)()
        assert self.consumer.position(T0) == self.position
        assert self.consumer.end_offsets([T0])[T0] == len(self.sent)
        assert self.consumer.lag()[T0] == len(self.sent) - self.position


def address_of(record: Any) -> int:
    numpy = pytest.importorskip("numpy")
    return int(numpy.frombuffer(record, dtype=numpy.uint8).__array_interface__["data"][0])


@pytest.mark.parametrize("seed", range(4))
def test_a_replicated_topic_is_a_list_even_when_most_of_it_is_on_disk_only(
    bus_dir: Path, broker: Broker, seed: int
) -> None:
    create_topic(bus_dir, segment_bytes=MIB, hot_bytes=4 * MIB)
    model = Model(bus_dir, seed, waits=False)
    for _ in range(STEPS):
        model.step()
    model.producer.flush(20)
    model.consumer.seek_to_beginning()
    model.position = 0
    model.read_all()
    assert model.consumer.beginning_offsets([T0])[T0] == 0
    model.close()


@pytest.mark.parametrize("seed", range(2))
def test_a_memory_topic_is_a_list_to_a_reader_that_keeps_up(
    bus_dir: Path, broker: Broker, seed: int
) -> None:
    create_topic(bus_dir, durability="memory", segment_bytes=MIB, hot_bytes=16 * MIB)
    model = Model(bus_dir, seed, waits=True)
    for _ in range(STEPS):
        model.step()
    model.read_all()
    model.close()
