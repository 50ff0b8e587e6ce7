"""Records read in place: they stay valid and unchanged for as long as they are held."""

import gc
from pathlib import Path
from typing import Any

import numpy
import pytest

import bus
from bus.broker import Broker
from bus.native.core import Partition
from bus.structs import TopicPartition
from tests.broker.rig import create_topic, status
from tests.children import Fork, Report
from tests.waiting import eventually

MIB = 1 << 20
T0 = TopicPartition("t", 0)
HOT_MIB = 8
VALUE_BYTES = 64 * 1024


def pattern(number: int) -> bytes:
    return number.to_bytes(8, "little") * (VALUE_BYTES // 8)


def reader(path: Path, **options: Any) -> bus.Consumer:
    consumer = bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest", **options)
    consumer.assign([T0])
    return consumer


def send_ring(producer: bus.Producer, first: int, rings: int = 1) -> int:
    """So many records that the whole ring is used `rings` times; the next number."""
    last = first + rings * HOT_MIB * MIB // VALUE_BYTES
    for number in range(first, last):
        producer.send("t", pattern(number))
    producer.flush(20)
    return last


def hot_log(producer: bus.Producer) -> Partition:
    return producer._partitions[next(iter(producer._partitions))]


def warm_files(log: Partition) -> set[tuple[int, int]]:
    """The full-grown files of the ring; a small one from the growth may yet be replaced."""
    return {(slot.slot, slot.serial) for slot in log.ring() if slot.bytes == HOT_MIB * MIB // 4}


@pytest.fixture(params=["replicated", "memory"])
def topic(request: pytest.FixtureRequest, bus_dir: Path, broker: Broker) -> str:
    create_topic(
        bus_dir,
        durability=request.param,
        segment_bytes=2 * MIB,
        hot_bytes=HOT_MIB * MIB,
        overflow="drop" if request.param == "memory" else "block",
    )
    return str(request.param)


def test_a_partition_grows_from_one_mib_to_its_ring_and_then_recycles_warm_files(
    bus_dir: Path, topic: str
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"first").get(10)
        assert [slot.bytes for slot in hot_log(producer).ring()] == [MIB]
        next_number = send_ring(producer, 0, rings=2)
        files = warm_files(hot_log(producer))
        assert len(files) >= 3
        before = hot_log(producer).counters["recycled"]
        send_ring(producer, next_number, rings=4)
        log = hot_log(producer)
        assert log.counters["recycled"] - before >= 3 * HOT_MIB // 2
        assert files <= warm_files(log), "a warm file is never replaced"
        assert sum(slot.bytes for slot in log.ring()) <= HOT_MIB * MIB
        assert status(bus_dir)["hot_bytes"] <= HOT_MIB * MIB


def test_views_and_arrays_stay_unchanged_while_the_ring_is_recycled_many_times(
    bus_dir: Path, topic: str
) -> None:
    with bus.Producer(bus_dir) as producer, reader(bus_dir) as consumer:
        held: list[tuple[int, memoryview, Any]] = []
        number = 0
        for _ in range(6):
            producer.send("t", pattern(number)).get(10)
            consumer.seek_to_end()
            consumer.seek(T0, consumer.position(T0) - 1)
            (record,) = consumer.poll(1000)[T0]
            array = numpy.frombuffer(record, dtype=numpy.uint64)
            held.append((number, record.view(), array))
            del record
            number = send_ring(producer, number + 1)
        for stamp, view, array in held:
            assert view.readonly
            assert not array.flags.writeable
            assert bytes(view) == pattern(stamp)
            assert (array == stamp).all()


def test_a_view_outlives_its_consumer(bus_dir: Path, topic: str) -> None:
    with bus.Producer(bus_dir) as producer:
        consumer = reader(bus_dir)
        producer.send("t", pattern(7)).get(10)
        (record,) = consumer.poll(1000)[T0]
        view = memoryview(record)
        consumer.close()
        del record, consumer
        send_ring(producer, 100, rings=4)
        assert bytes(view) == pattern(7)
        clients = len(status(bus_dir)["clients"])
        del view
        gc.collect()
        eventually(lambda: len(status(bus_dir)["clients"]) < clients, what="the consumer has gone")
        assert not hot_log(producer).readers()


def test_dropping_the_last_record_lets_the_segment_be_used_again(bus_dir: Path, topic: str) -> None:
    with bus.Producer(bus_dir) as producer, reader(bus_dir) as consumer:
        producer.send("t", pattern(0)).get(10)
        producer.send("t", pattern(1)).get(10)
        first, second = consumer.poll(1000)[T0]
        consumer.poll(0)
        consumer.seek_to_end()
        assert [bool(slot.pins) for slot in hot_log(producer).readers()] == [True]
        del first
        assert [bool(slot.pins) for slot in hot_log(producer).readers()] == [True]
        del second
        assert [bool(slot.pins) for slot in hot_log(producer).readers()] == [False]


def test_the_pins_of_a_killed_process_are_taken_back(bus_dir: Path, topic: str, fork: Fork) -> None:
    def hold(report: Report) -> None:
        consumer = reader(bus_dir)
        records = consumer.poll(10_000)[T0]
        report(len(records))
        while records:
            consumer.poll(1000)

    with bus.Producer(bus_dir) as producer:
        child = fork(hold)
        producer.send("t", pattern(0)).get(10)
        assert child.next() == 1
        log = hot_log(producer)
        assert any(one.pins for one in log.readers())
        child.kill()
        eventually(lambda: not log.readers(), what="the dead reader's place is free")
        send_ring(producer, 1, rings=3)
        assert sum(slot.bytes for slot in log.ring()) <= HOT_MIB * MIB
