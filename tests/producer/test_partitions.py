"""Which partition a record goes to, and that order is kept there."""

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bus
from bus.broker import Broker
from bus.errors import BusConfigurationError, UnknownTopicOrPartitionError
from bus.native.core import murmur2
from bus.partitioner import by_mmh3, by_murmur2
from bus.structs import TopicPartition
from tests.broker.rig import create_topic

PARTITIONS = 5


@pytest.fixture
def topic(bus_dir: Path, broker: Broker) -> Path:
    create_topic(bus_dir, partitions=PARTITIONS)
    return bus_dir


def everything(path: Path, count: int) -> dict[int, list[Any]]:
    """All records by partition."""
    found: dict[int, list[Any]] = {number: [] for number in range(PARTITIONS)}
    with bus.Consumer("t", bootstrap_servers=path, auto_offset_reset="earliest") as consumer:
        for _ in range(count):
            record = next(consumer)
            found[record.partition].append((record.offset, record.key, record.value))
    for records in found.values():
        assert [record[0] for record in records] == list(range(len(records)))
    return found


def plain_murmur2(key: bytes) -> int:
    """Austin Appleby's MurmurHash2 with Kafka's seed, word by word."""
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    state = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * multiplier & mask
        state = state * multiplier & mask ^ (word ^ word >> 24) * multiplier & mask
    if key[whole:]:
        state = (state ^ int.from_bytes(key[whole:], "little")) * multiplier & mask
    state = (state ^ state >> 13) * multiplier & mask
    return state ^ state >> 15


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_values_that_kafka_publishes(key: bytes, expected: int) -> None:
    assert murmur2(key) == plain_murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=70), st.integers(1, 1024))
def test_murmur2_is_that_of_kafka(key: bytes, partitions: int) -> None:
    assert murmur2(key) == plain_murmur2(key)
    assert by_murmur2(key, partitions) == (plain_murmur2(key) & 0x7FFFFFFF) % partitions


@given(st.binary(max_size=70), st.integers(1, 1024))
def test_mmh3_is_that_of_its_library(key: bytes, partitions: int) -> None:
    assert by_mmh3(key, partitions) == mmh3.hash(key, 0, signed=False) % partitions


@pytest.mark.parametrize("name", ["mmh3", "murmur2"])
def test_a_key_goes_where_its_hash_says(topic: Path, name: Any) -> None:
    oracle = {"mmh3": by_mmh3, "murmur2": by_murmur2}[name]
    keys = [b"key-%d" % number for number in range(200)]
    with bus.Producer(topic, partitioner=name) as producer:
        for key in keys:
            future = producer.send("t", b"one", key=key)
            assert future.partition == oracle(key, PARTITIONS)
        producer.send_many("t", [b"many"] * len(keys), keys=keys)
    for number, records in everything(topic, 400).items():
        assert {key for _, key, _ in records} == {
            key for key in keys if oracle(key, PARTITIONS) == number
        }


def test_a_function_may_choose_the_partition_as_in_kafka_python(topic: Path) -> None:
    seen: list[Any] = []

    def last(key: bytes, everything: list[int], available: list[int]) -> int:
        seen.append((key, everything, available))
        return everything[-1]

    with bus.Producer(topic, partitioner=last) as producer:
        assert producer.send("t", b"x", key=b"k").partition == PARTITIONS - 1
    assert seen == [(b"k", list(range(PARTITIONS)), list(range(PARTITIONS)))]


def test_a_function_that_chooses_nonsense_is_refused(topic: Path) -> None:
    with (
        bus.Producer(topic, partitioner=lambda key, every, some: 99) as producer,
        pytest.raises(BusConfigurationError, match="99"),
    ):
        producer.send("t", b"x", key=b"k")


def test_a_named_partition_wins_over_the_key(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        for number in range(PARTITIONS):
            assert producer.send("t", b"x", key=b"k", partition=number).partition == number


@pytest.mark.parametrize("partition", [-1, PARTITIONS, 2**40])
def test_a_partition_that_is_not_there_is_refused(topic: Path, partition: int) -> None:
    with bus.Producer(topic) as producer:
        with pytest.raises(UnknownTopicOrPartitionError, match=r"0\.\.4"):
            producer.send("t", b"x", partition=partition)
        with pytest.raises(UnknownTopicOrPartitionError, match=r"0\.\.4"):
            producer.send_many("t", [b"x"], partition=partition)
        with pytest.raises(UnknownTopicOrPartitionError, match=r"0\.\.4"):
            producer.send_many("t", [b"x"], keys=[b"k"], partition=partition)
        assert producer.records_sent == 0


def test_records_without_key_stick_to_a_partition_for_a_batch_and_then_move_on(topic: Path) -> None:
    with bus.Producer(topic, batch_size=10_000) as producer:
        chosen = [producer.send("t", bytes(952)).partition for _ in range(100)]
    runs = [(number, len(list(group))) for number, group in groupby(chosen)]
    assert [length for _, length in runs] == [10] * 10
    assert Counter(number for number, _ in runs) == dict.fromkeys(range(PARTITIONS), 2)


def test_send_many_keeps_the_order_of_every_key(topic: Path) -> None:
    keys = [b"%d" % (number % 37) for number in range(5000)]
    values = [b"%d" % number for number in range(5000)]
    with bus.Producer(topic) as producer:
        future = producer.send_many("t", values, keys=keys)
        assert future.partition == by_mmh3(keys[-1], PARTITIONS)
        future.get(10)
    order: dict[bytes, list[int]] = {}
    for records in everything(topic, 5000).values():
        for _, key, value in records:
            order.setdefault(key, []).append(int(value))
    for key in set(keys):
        assert order[key] == list(range(int(key), 5000, 37))


def test_send_many_without_keys_is_one_run_in_one_partition(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        first = producer.send_many("t", [b"%d" % number for number in range(1000)])
        producer.flush(10)
    (records,) = [found for found in everything(topic, 1000).values() if found]
    assert [int(value) for _, _, value in records] == list(range(1000))
    assert first.offset == 999


def test_keys_that_are_null_or_empty_are_told_apart(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        producer.send_many("t", [b"a", b"b", b"c"], keys=[None, b"", b"k"])
    found = [record for records in everything(topic, 3).values() for record in records]
    assert {(key, value) for _, key, value in found} == {(None, b"a"), (b"", b"b"), (b"k", b"c")}


def test_a_topic_that_grows_gets_its_new_partitions_used(topic: Path) -> None:
    from bus.admin import Admin

    with bus.Producer(topic, batch_size=0) as producer, Admin(topic) as admin:
        assert producer.partitions_for("t") == set(range(PARTITIONS))
        producer.send("t", b"x")
        admin.create_partitions({"t": 8})
        assert producer.send("t", b"x", partition=7).partition == 7
        assert producer.partitions_for("t") == set(range(8))
        assert producer.send("t", b"x", key=b"k").partition == by_mmh3(b"k", 8)


def test_the_partition_of_a_record_is_its_topic_partition(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        assert producer.send("t", b"x", partition=3).get(10).topic_partition == TopicPartition(
            "t", 3
        )
