"""Arrays, batches and objects that a program holds stay what they are, whatever goes on."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

import bus
from bus.broker import Broker
from bus.config import BrokerConfig
from bus.errors import BackpressureError
from bus.native.core import LAYOUT, Partition
from bus.serializers import Arrow, Numpy, Pickle
from tests.broker.rig import create_topic, kill_broker, status
from tests.waiting import eventually

MIB = 1 << 20
ITEMS = 80_000
#: so few of them fill a segment of 1 MiB that each new one is in another segment
BIG_ITEMS = 600_000
RING: dict[str, Any] = {"segment_bytes": MIB, "hot_bytes": 4 * MIB}
FORMATS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "numpy": (Numpy(), lambda array: array, lambda value: value),
    "arrow": (
        Arrow(),
        lambda array: pyarrow.record_batch({"x": array}),
        lambda value: value.column(0).to_numpy(),
    ),
    "pickle": (Pickle(), lambda array: [array], lambda value: value[0]),
}


def array_of(number: int, items: int = ITEMS) -> Any:
    return numpy.full(items, number, numpy.uint8)


def take(path: Path, kind: str, count: int) -> list[Any]:
    """The arrays of that many values of the topic of a format; the consumer is closed and gone."""
    format, _, unwrap = FORMATS[kind]
    with bus.Consumer(
        kind, bootstrap_servers=path, value_deserializer=format, auto_offset_reset="earliest"
    ) as consumer:
        arrays = [unwrap(next(consumer).value) for _ in range(count)]
    return arrays


def send(path: Path, kind: str, numbers: range) -> None:
    format, wrap, _ = FORMATS[kind]
    with bus.Producer(path, value_serializer=format) as producer:
        for number in numbers:
            producer.send(kind, wrap(array_of(number % 200)))
        producer.flush(20)


def hot_log(producer: bus.Producer) -> Partition:
    return next(iter(producer._partitions.values()))


@pytest.mark.parametrize("durability", ["replicated", "memory"])
def test_held_arrays_outlive_their_segments_their_consumer_and_their_topic(
    bus_dir: Path, durability: str
) -> None:
    """Recycled many times, retained away, consumer closed, topic deleted, broker killed."""
    held: dict[str, list[Any]] = {}
    with Broker(bus_dir, config=BrokerConfig(retention_check_ms=50)) as broker:
        for kind in FORMATS:
            create_topic(bus_dir, kind, durability=durability, retention_bytes=MIB, **RING)
            send(bus_dir, kind, range(5))
            held[kind] = take(bus_dir, kind, 5)
            send(bus_dir, kind, range(5, 120))
        with bus.Consumer(*FORMATS, bootstrap_servers=bus_dir) as consumer:
            for kind in FORMATS:
                place = bus.TopicPartition(kind, 0)
                eventually(
                    lambda p=place: consumer.beginning_offsets([p])[p] > 80, what="retention"
                )
        expect(held)
        with bus.Admin(bus_dir) as admin:
            admin.delete_topics(list(FORMATS))
        expect(held)
        kill_broker(broker)
        expect(held)
    with Broker(bus_dir):
        expect(held)
    del held
    gc.collect()


def expect(held: dict[str, list[Any]]) -> None:
    for arrays in held.values():
        for number, array in enumerate(arrays):
            assert array.shape == (ITEMS,)
            assert (array == number).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_dropped_value_lets_its_segment_go_though_the_record_made_it(
    shared_bus: Path, kind: str
) -> None:
    """No circle of record and value: reference counts are enough, the collector is off."""
    send(shared_bus, kind, range(3))
    gc.disable()
    try:
        with (
            bus.Producer(shared_bus) as producer,
            bus.Consumer(
                kind,
                bootstrap_servers=shared_bus,
                value_deserializer=FORMATS[kind][0],
                auto_offset_reset="earliest",
            ) as consumer,
        ):
            producer.send(kind, b"the last one").get(20)
            records = [next(consumer) for _ in range(3)]
            values = [record.value for record in records]
            consumer.seek_to_end()
            consumer.poll(0)
            assert [bool(one.pins) for one in hot_log(producer).readers()] == [True]
            del records
            assert [bool(one.pins) for one in hot_log(producer).readers()] == [True]
            del values
            assert [bool(one.pins) for one in hot_log(producer).readers()] == [False]
    finally:
        gc.enable()


@pytest.mark.parametrize("overflow", ["block", "drop"])
def test_held_values_of_a_memory_topic_cost_memory_until_all_places_of_the_ring_are_held(
    bus_dir: Path, broker: Broker, overflow: str
) -> None:
    """A producer goes on in new files; when each place is held, it blocks and says by whom."""
    create_topic(bus_dir, durability="memory", overflow=overflow, **RING)
    places = LAYOUT["BUS_RING_SLOTS"]
    with (
        bus.Producer(bus_dir, value_serializer="numpy") as producer,
        bus.Producer(bus_dir, value_serializer="numpy", max_block_ms=100) as impatient,
        bus.Consumer(
            "t",
            bootstrap_servers=bus_dir,
            client_id="hoarder",
            value_deserializer="numpy",
            auto_offset_reset="earliest",
        ) as consumer,
    ):
        held = []
        for number in range(places):
            producer.send("t", array_of(number, BIG_ITEMS))
            held.append(next(consumer).value)
            consumer.poll(0)
        with pytest.raises(BackpressureError) as caught:
            impatient.send("t", array_of(0, BIG_ITEMS))
        assert f"all {places} of the ring are taken" in str(caught.value)
        assert "hoarder" in str(caught.value)
        assert "drop some, or hold copies" in str(caught.value)
        for number, array in enumerate(held):
            assert (array == number).all()
        assert status(bus_dir)["hot_bytes"] <= 4 * MIB + MIB
        del held[:8], array
        for number in range(20):
            producer.send("t", array_of(number, BIG_ITEMS))
            assert (next(consumer).value == number).all()
            consumer.poll(0)
        for number, array in enumerate(held, 8):
            assert (array == number).all()
