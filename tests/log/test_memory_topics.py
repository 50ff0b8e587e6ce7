"""Topics that live in RAM only: a lossless queue that blocks, or live frames that drop."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from bus.errors import BackpressureError
from bus.structs import TopicPartition
from tests.broker.rig import create_topic
from tests.children import Child, Fork, Report
from tests.waiting import eventually

MIB = 1 << 20
T0 = TopicPartition("t", 0)
VALUE = b"x" * 100_000
RING_RECORDS = 4 * MIB // len(VALUE)


@pytest.fixture
def queue(bus_dir: Path, broker: Broker) -> Path:
    create_topic(bus_dir, durability="memory", segment_bytes=MIB, hot_bytes=4 * MIB)
    return bus_dir


def reader(path: Path, **options: Any) -> bus.Consumer:
    consumer = bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest", **options)
    consumer.assign([T0])
    return consumer


def fill(producer: bus.Producer) -> int:
    """Sends until the producer is blocked for max_block_ms; how many records went in."""
    sent = 0
    with pytest.raises(BackpressureError):
        while sent < 10 * RING_RECORDS:
            producer.send("t", VALUE, key=sent.to_bytes(4, "big"))
            sent += 1
    return sent


def attached_reader(fork: Fork, path: Path) -> Child:
    """A process whose consumer has a place in the log and reads nothing."""

    def stay(report: Report) -> None:
        consumer = reader(path, client_id="slow-one")
        report(consumer.position(T0))
        while True:
            time.sleep(1)

    child = fork(stay)
    assert child.next() == 0
    return child


def test_without_readers_the_oldest_records_make_room(queue: Path) -> None:
    with bus.Producer(queue, max_block_ms=500) as producer, reader(queue) as consumer:
        consumer.unsubscribe()
        for _ in range(10 * RING_RECORDS):
            producer.send("t", VALUE)
        assert consumer.beginning_offsets([T0])[T0] > 5 * RING_RECORDS


def test_a_full_queue_blocks_and_names_the_consumer_that_is_slow(queue: Path, fork: Fork) -> None:
    child = attached_reader(fork, queue)
    with bus.Producer(queue, max_block_ms=300) as producer:
        sent = fill(producer)
        assert RING_RECORDS // 2 < sent <= RING_RECORDS
        begun = time.monotonic()
        with pytest.raises(BackpressureError) as caught:
            producer.send("t", VALUE)
        assert 0.25 < time.monotonic() - begun < 2
        assert f"pid {child.pid}" in str(caught.value)
        assert "slow-one" in str(caught.value)


def test_a_blocked_queue_loses_nothing(queue: Path) -> None:
    with bus.Producer(queue, max_block_ms=200) as producer, reader(queue) as consumer:
        keys: list[int] = []
        sent = fill(producer)
        while len(keys) < sent:
            keys += [int.from_bytes(r.key, "big") for r in consumer.poll(1000)[T0]]
        assert keys == list(range(sent))
        consumer.poll(0)
        assert producer.send("t", VALUE).offset == sent, "refused records took no offset"


def test_a_blocked_send_goes_on_as_soon_as_the_consumer_has_read(queue: Path) -> None:
    with bus.Producer(queue, max_block_ms=20_000) as producer, reader(queue) as consumer:
        total = 10 * RING_RECORDS
        thread = threading.Thread(
            target=lambda: [producer.send("t", VALUE, key=b"%d" % i) for i in range(total)]
        )
        thread.start()
        seen = 0
        while seen < total:
            for record in consumer.poll(5000)[T0]:
                assert record.key == b"%d" % seen
                seen += 1
        thread.join(10)
        assert not thread.is_alive()


def test_a_consumer_that_pauses_something_does_not_hold_back_the_rest(queue: Path) -> None:
    create_topic(queue, "other", durability="memory", segment_bytes=MIB, hot_bytes=4 * MIB)
    other = TopicPartition("other", 0)
    with bus.Producer(queue, max_block_ms=200) as producer, reader(queue) as consumer:
        consumer.assign([T0, other])
        sent = fill(producer)
        seen = 0
        while seen < sent:
            seen += len(consumer.poll(1000)[T0])
        consumer.pause(other)
        blocked = threading.Thread(target=lambda: [producer.send("t", VALUE) for _ in range(9)])
        with bus.Producer(queue, max_block_ms=5000) as producer:
            blocked.start()
            assert T0 in consumer.poll(4000), "this poll said first what was done before it"
            blocked.join(5)


def test_the_death_of_the_slow_consumer_frees_the_producer(queue: Path, fork: Fork) -> None:
    child = attached_reader(fork, queue)
    with bus.Producer(queue, max_block_ms=200) as impatient:
        fill(impatient)
    with bus.Producer(queue, max_block_ms=20_000) as producer:
        futures: list[Any] = []
        thread = threading.Thread(target=lambda: futures.append(producer.send("t", VALUE)))
        thread.start()
        child.kill()
        begun = time.monotonic()
        eventually(lambda: futures, 5, "the blocked send returns")
        assert time.monotonic() - begun < 2
        thread.join(5)


def test_closing_the_slow_consumer_frees_the_producer(queue: Path) -> None:
    with bus.Producer(queue, max_block_ms=200) as producer:
        consumer = reader(queue)
        sent = fill(producer)
        consumer.close()
        assert producer.send("t", VALUE).offset == sent


def test_a_reader_that_starts_late_begins_where_the_ring_does(queue: Path) -> None:
    with bus.Producer(queue) as producer:
        for number in range(3 * RING_RECORDS):
            producer.send("t", VALUE, key=b"%d" % number)
        with reader(queue) as consumer:
            start = consumer.position(T0)
            assert start > 0
            records = consumer.poll(1000)[T0]
            assert [record.offset for record in records[:2]] == [start, start + 1]
            assert records[0].key == b"%d" % start


def test_frames_that_a_slow_reader_missed_are_counted_and_named(
    bus_dir: Path, broker: Broker
) -> None:
    create_topic(
        bus_dir, durability="memory", overflow="drop", segment_bytes=MIB, hot_bytes=4 * MIB
    )
    with bus.Producer(bus_dir, max_block_ms=500) as producer, reader(bus_dir) as consumer:
        producer.send("t", b"0")
        assert [record.offset for record in consumer.poll(1000)[T0]] == [0]
        for _ in range(5 * RING_RECORDS):
            producer.send("t", VALUE)
        end = 5 * RING_RECORDS + 1
        offsets = [0]
        while offsets[-1] < end - 1:
            offsets += [record.offset for record in consumer.poll(1000)[T0]]
        assert offsets == sorted(set(offsets)), "what does come is in order"
        missed = end - len(offsets)
        assert missed > RING_RECORDS
        figures = consumer.metrics()["consumer-fetch-manager-metrics"]
        assert figures["records-skipped"] == missed
        log = producer._partitions[next(iter(producer._partitions))]
        assert log.counters["dropped_records"] >= missed
