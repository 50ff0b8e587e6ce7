"""What is deleted, and what a reader sees of it."""

from pathlib import Path
from typing import Any

import pytest

import bus
from bus.admin import Admin
from bus.broker import Broker
from bus.config import BrokerConfig
from bus.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from bus.structs import OffsetAndMetadata, TopicPartition
from tests.broker.rig import ask, create_topic, durable_files
from tests.waiting import eventually

MIB = 1 << 20
T0 = TopicPartition("t", 0)
VALUE = b"v" * 10_000
SMALL: dict[str, Any] = {"segment_bytes": MIB, "hot_bytes": 4 * MIB}


@pytest.fixture
def broker(bus_dir: Path) -> Any:
    """Looks for old segments ten times a second."""
    with Broker(bus_dir, config=BrokerConfig(retention_check_ms=100)) as running:
        yield running


def fill(path: Path, count: int, timestamp_ms: int | None = None) -> None:
    with bus.Producer(path) as producer:
        for _ in range(count):
            producer.send("t", VALUE, timestamp_ms=timestamp_ms)
        producer.flush(20)


def reader(path: Path, **options: Any) -> bus.Consumer:
    return bus.Consumer("t", bootstrap_servers=path, **options)


def start_of(path: Path) -> int:
    with reader(path) as consumer:
        return consumer.beginning_offsets([T0])[T0]


@pytest.mark.parametrize("durability", ["replicated", "memory"])
def test_a_log_above_its_size_loses_its_oldest_segments(
    bus_dir: Path, broker: Broker, durability: str
) -> None:
    create_topic(bus_dir, **SMALL, retention_bytes=2 * MIB, durability=durability)
    fill(bus_dir, 1000)
    start = eventually(lambda: start_of(bus_dir), what="a higher log start")
    kept = eventually(lambda: 1000 - start_of(bus_dir) <= 330 and 1000 - start_of(bus_dir))
    assert kept * len(VALUE) >= MIB, "what fits the size stays"
    assert start > 0
    with reader(bus_dir, auto_offset_reset="earliest") as consumer:
        assert next(consumer).offset == start_of(bus_dir)


def test_records_older_than_the_time_go_and_their_files_too(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, **SMALL, retention_ms=60_000)
    fill(bus_dir, 500, timestamp_ms=1_000)
    files = durable_files(bus_dir)
    fill(bus_dir, 300)
    eventually(lambda: not set(files[:-1]) & set(durable_files(bus_dir)), what="files deleted")
    assert 400 <= start_of(bus_dir) <= 500
    with reader(bus_dir, auto_offset_reset="earliest") as consumer:
        assert consumer.lag()[T0] >= 300


def test_an_idle_log_of_old_records_empties_itself(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, **SMALL, retention_ms=60_000)
    fill(bus_dir, 10, timestamp_ms=1_000)
    eventually(lambda: start_of(bus_dir) == 10, what="everything has gone")
    fill(bus_dir, 1)
    with reader(bus_dir, auto_offset_reset="earliest") as consumer:
        assert next(consumer).offset == 10


def test_deleted_records_cannot_be_read_and_the_rest_can(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, **SMALL)
    fill(bus_dir, 500)
    with Admin(bus_dir) as admin:
        admin.delete_records({T0: 321})
    assert start_of(bus_dir) == 321
    with reader(bus_dir, auto_offset_reset="earliest") as consumer:
        assert next(consumer).offset == 321


def test_a_position_that_was_deleted_follows_the_policy(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    fill(bus_dir, 20)
    readers = {reset: reader(bus_dir, auto_offset_reset=reset) for reset in ("earliest", "latest")}
    strict = reader(bus_dir, auto_offset_reset="none", group_id="strict")
    try:
        for consumer in readers.values():
            consumer.seek(T0, 3)
        with pytest.raises(NoOffsetForPartitionError):
            strict.poll(0)
        strict.commit({T0: OffsetAndMetadata(3)})
        ask(bus_dir, "delete_records", name="t", partition=0, offset=10)
        assert readers["earliest"].poll(1000)[T0][0].offset == 10
        assert readers["latest"].poll(0) == {}
        assert readers["latest"].position(T0) == 20
        with pytest.raises(OffsetOutOfRangeError) as caught:
            strict.poll(0)
        assert "offset 3 is below the log start 10" in str(caught.value)
    finally:
        for consumer in (*readers.values(), strict):
            consumer.close()


def test_a_position_beyond_the_end_follows_the_policy(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    fill(bus_dir, 20)
    with reader(bus_dir, auto_offset_reset="earliest") as consumer:
        consumer.seek(T0, 1000)
        assert consumer.poll(1000)[T0][0].offset == 0
    with reader(bus_dir, auto_offset_reset="latest") as consumer:
        consumer.seek(T0, 1000)
        assert consumer.poll(0) == {}
        assert consumer.position(T0) == 20


def test_records_deleted_while_they_are_held_stay_readable(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, **SMALL, retention_bytes=2 * MIB)
    with bus.Producer(bus_dir) as producer, reader(bus_dir) as consumer:
        producer.send("t", b"precious" * 1000).get(10)
        consumer.seek_to_beginning()
        (record,) = consumer.poll(1000)[T0]
        for _ in range(1000):
            producer.send("t", VALUE)
        producer.flush(20)
        eventually(lambda: start_of(bus_dir) > 0, what="a higher log start")
        assert record.value == b"precious" * 1000
