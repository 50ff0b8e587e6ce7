"""Subscribing, assigning, positions, times, lag, waiting: one consumer and its records."""

import random
import threading
import time
from pathlib import Path

import pytest

import bus
from bus.admin import Admin
from bus.broker import Broker
from bus.errors import (
    ClosedError,
    CorruptRecordError,
    IllegalStateError,
    NoOffsetForPartitionError,
    UnknownTopicOrPartitionError,
)
from bus.structs import OffsetAndTimestamp, TopicPartition
from tests.broker.rig import ask, create_topic
from tests.consumer.rig import T0, T1, T2, reader, values
from tests.producer.test_futures import frozen_replica, spoil
from tests.waiting import eventually

MIB = 1 << 20


# ------------------------------------------------------------------------------ what is read


def test_the_first_poll_returns_what_is_there(topic: Path, producer: bus.Producer) -> None:
    producer.send("t", b"x")
    for group in (None, "g"):
        with reader(topic, "t", group_id=group) as consumer:
            assert values(consumer.poll(0)) == [b"x"]


def test_a_topic_that_does_not_exist_is_created_by_its_first_reader(topic: Path) -> None:
    with reader(topic, "new") as consumer:
        assert "new" in consumer.topics()
        assert consumer.partitions_for_topic("new") == {0}
        assert consumer.partitions_for_topic("other") is None
        assert consumer.subscription() == {"new"}


def test_latest_is_the_end_at_the_time_of_subscribing(topic: Path, producer: bus.Producer) -> None:
    producer.send("t", b"old", partition=0)
    with reader(topic, "t", auto_offset_reset="latest") as consumer:
        producer.send("t", b"new", partition=0)
        assert values(consumer.poll(1000)) == [b"new"]


def test_a_pattern_does_not_bring_back_a_topic_that_was_deleted_while_it_looked(
    bus_dir: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(bus_dir, "x-1")
    with reader(bus_dir) as consumer:
        client = consumer._fetcher.client
        before = client.topics()
        ask(bus_dir, "delete_topics", names=["x-1"])
        monkeypatch.setattr(client, "topics", lambda: before)
        consumer.subscribe(pattern="^x-")
        assert consumer.poll(10) == {}
        assert consumer.assignment() == set()
    assert ask(bus_dir, "topics")["topics"] == []


def test_a_pattern_reads_topics_that_come_later_and_none_that_are_internal(
    topic: Path, producer: bus.Producer
) -> None:
    with reader(topic) as consumer:
        consumer.subscribe(pattern="^(t|x-.*|__.*)$")
        assert consumer.subscription() == {"t"}
        for name in ("x-1", "y-1", "__x"):
            producer.send(name, name.encode())
        assert values(consumer.poll(5000)) == [b"x-1"]
        assert consumer.subscription() == {"t", "x-1"}


def test_subscribing_replaces_and_unsubscribing_forgets(
    topic: Path, producer: bus.Producer
) -> None:
    producer.send("a", b"a")
    producer.send("b", b"b")
    with reader(topic, "a") as consumer:
        assert consumer.assignment() == {TopicPartition("a", 0)}
        consumer.subscribe(["b"])
        assert values(consumer.poll(0)) == [b"b"]
        assert consumer.assignment() == {TopicPartition("b", 0)}
        consumer.unsubscribe()
        assert consumer.assignment() == set()
        assert consumer.subscription() is None
        assert consumer.poll(0) == {}
        consumer.assign([TopicPartition("a", 0)])
        assert values(consumer.poll(0)) == [b"a"]


def test_assigning_and_subscribing_exclude_each_other(topic: Path) -> None:
    with reader(topic, "t") as consumer:
        with pytest.raises(IllegalStateError, match="unsubscribe"):
            consumer.assign([T0])
        with pytest.raises(TypeError, match=r"use \['t'\]"):
            consumer.subscribe("t")
        consumer.unsubscribe()
        consumer.assign([T0])
        with pytest.raises(IllegalStateError, match="unsubscribe"):
            consumer.subscribe(["t"])
        with pytest.raises(UnknownTopicOrPartitionError, match="0 to 2"):
            consumer.assign([TopicPartition("t", 3)])


def test_partitions_that_are_added_are_read_as_well(topic: Path, producer: bus.Producer) -> None:
    for group in (None, "g"):
        create_topic(topic, f"grow-{group}")
        with reader(topic, f"grow-{group}", group_id=group) as consumer, Admin(topic) as admin:
            consumer.poll(0)
            admin.create_partitions({f"grow-{group}": 2})
            producer.send(f"grow-{group}", b"in the new one", partition=1)
            assert values(consumer.poll(5000)) == [b"in the new one"]


@pytest.mark.parametrize("group", [None, "g"])
def test_a_deleted_topic_is_not_made_again_by_its_readers_but_read_when_it_is_back(
    topic: Path, producer: bus.Producer, group: str | None
) -> None:
    producer.send("gone", b"old").get(10)
    with reader(topic, "gone", "t", group_id=group) as consumer:
        assert values(consumer.poll(1000)) == [b"old"]
        ask(topic, "delete_topics", names=["gone"])
        producer.send("t", b"x", partition=1)
        assert values(consumer.poll(5000)) == [b"x"]
        assert consumer.assignment() == {T0, T1, T2}
        assert "gone" not in consumer.topics()
        producer.send("gone", b"new")
        assert values(consumer.poll(5000)) == [b"new"]


def test_paused_partitions_return_nothing_and_lose_nothing(
    topic: Path, producer: bus.Producer
) -> None:
    for number in range(3):
        producer.send("t", b"%d" % number, partition=number)
    with reader(topic, "t") as consumer:
        consumer.pause(T0, T2)
        assert consumer.paused() == {T0, T2}
        assert values(consumer.poll(0)) == [b"1"]
        assert consumer.poll(0) == {}
        consumer.resume(T2)
        assert values(consumer.poll(0)) == [b"2"]
        consumer.resume(T0)
        assert next(consumer).value == b"0"
        consumer.pause(T0)
        producer.send("t", b"later", partition=0)
        assert consumer.poll(50) == {}
        with pytest.raises(IllegalStateError, match="not assigned"):
            consumer.pause(TopicPartition("t", 9))


def test_a_busy_partition_does_not_starve_the_others(topic: Path, producer: bus.Producer) -> None:
    producer.send_many("t", [b"busy"] * 10_000, partition=0)
    producer.send("t", b"a", partition=1)
    producer.send("t", b"b", partition=2)
    with reader(topic, "t", max_poll_records=100) as consumer:
        seen = {value for _ in range(3) for value in values(consumer.poll(0))}
        assert seen == {b"busy", b"a", b"b"}
    with reader(topic, "t", max_poll_records=100) as consumer:
        assert {next(consumer).value for _ in range(300)} == {b"busy", b"a", b"b"}


# ---------------------------------------------------------------------------------- positions


def test_a_position_is_the_next_offset_and_seeks_move_it(
    topic: Path, producer: bus.Producer
) -> None:
    producer.send_many("t", [b"%d" % number for number in range(100)], partition=1)
    with reader(topic, "t") as consumer:
        assert consumer.position(T1) == 0
        assert len(values(consumer.poll(0, max_records=10))) == 10
        assert consumer.position(T1) == 10
        consumer.seek(T1, 42)
        assert next(consumer).value == b"42"
        assert consumer.position(T1) == 43
        consumer.seek_to_end(T1)
        assert consumer.position(T1) == 100
        assert consumer.lag() == {T0: 0, T1: 0, T2: 0}
        consumer.seek_to_beginning()
        assert consumer.lag() == {T0: 0, T1: 100, T2: 0}
        assert consumer.highwater(T1) == 100
        assert consumer.beginning_offsets([T0, T1]) == {T0: 0, T1: 0}
        assert consumer.end_offsets([T0, T1]) == {T0: 0, T1: 100}
        for wrong in (-1, -(2**40)):
            with pytest.raises(ValueError, match="not negative"):
                consumer.seek(T1, wrong)
        with pytest.raises(IllegalStateError, match="not assigned"):
            consumer.seek(TopicPartition("t", 7), 0)


def test_without_a_policy_the_program_must_seek(topic: Path, producer: bus.Producer) -> None:
    producer.send("t", b"x", partition=0)
    with reader(topic, auto_offset_reset="none") as consumer:
        consumer.assign([T0, T1])
        assert consumer.assignment() == {T0, T1}
        with pytest.raises(NoOffsetForPartitionError, match="seek"):
            consumer.poll(0)
        consumer.seek(T0, 0)
        with pytest.raises(NoOffsetForPartitionError):
            consumer.poll(0)
        consumer.seek_to_end(T1)
        assert values(consumer.poll(0)) == [b"x"]


def test_offsets_for_times_are_those_of_a_plain_search(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, segment_bytes=MIB, hot_bytes=4 * MIB)
    pick = random.Random(7)
    times: list[int] = []
    with bus.Producer(bus_dir) as producer:
        for number in range(1200):
            times.append(1_000_000 + number * 10 + pick.randrange(-200, 200))
            producer.send("t", bytes(10_000), timestamp_ms=times[-1])
        producer.flush(20)
    with reader(bus_dir, "t") as consumer:
        for at in [0, *pick.sample(range(999_000, 1_014_000), 60), times[0], times[-1]]:
            expected = next(((n, t) for n, t in enumerate(times) if t >= at), None)
            found = consumer.offsets_for_times({T0: at})[T0]
            assert found == (OffsetAndTimestamp(*expected) if expected else None), at
        assert consumer.offsets_for_times({T0: 10**10}) == {T0: None}


# ------------------------------------------------------------------------------------ waiting


def test_a_waiting_poll_returns_as_soon_as_a_record_comes(
    topic: Path, producer: bus.Producer
) -> None:
    producer.partitions_for("t")
    with reader(topic, "t") as consumer:
        delays = []
        for _ in range(5):
            sent: list[float] = []

            def send(sent: list[float] = sent) -> None:
                sent.append(time.monotonic())
                producer.send("t", b"x")

            timer = threading.Timer(0.05, send)
            timer.start()
            assert values(consumer.poll(10_000)) == [b"x"]
            delays.append(time.monotonic() - sent[0])
            timer.join()
        assert min(delays) < 0.02


def test_an_empty_poll_takes_its_time_and_no_more(topic: Path) -> None:
    with reader(topic, "t") as consumer:
        begun = time.monotonic()
        assert consumer.poll(200) == {}
        assert 0.19 < time.monotonic() - begun < 1
        with pytest.raises(ValueError, match="at least 1"):
            consumer.poll(0, max_records=0)


def test_iteration_ends_after_its_timeout_and_can_be_taken_up_again(
    topic: Path, producer: bus.Producer
) -> None:
    producer.send("t", b"1")
    with reader(topic, "t", consumer_timeout_ms=100) as consumer:
        assert [record.value for record in consumer] == [b"1"]
        producer.send("t", b"2")
        assert [record.value for record in consumer] == [b"2"]


def test_a_durable_reader_sees_only_what_is_on_disk(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    with (
        bus.Producer(bus_dir) as producer,
        reader(bus_dir, "t", read_until="durable", consumer_timeout_ms=10) as durable,
        reader(bus_dir, "t") as written,
    ):
        with frozen_replica(bus_dir):
            producer.send("t", b"x")
            assert values(written.poll(1000)) == [b"x"]
            assert durable.poll(50) == {}
            assert list(durable) == []
            assert durable.end_offsets([T0]) == {T0: 0}
            assert written.end_offsets([T0]) == {T0: 1}
        assert values(durable.poll(10_000)) == [b"x"]
        assert producer.send("t", b"y").get(10).offset == 1
        assert values(durable.poll(0)) == [b"y"]


# --------------------------------------------------------------------------- damage, and the end


def test_records_before_a_damaged_one_are_returned_and_the_damage_is_named(
    bus_dir: Path, broker: Broker
) -> None:
    create_topic(bus_dir, durability="memory", partitions=2)
    with bus.Producer(bus_dir) as producer, reader(bus_dir, "t") as consumer:
        for number in range(10):
            producer.send("t", b"spoilt" if number == 6 else b"good", partition=0)
        producer.send("t", b"other", partition=1)
        spoil(bus_dir, b"spoilt")
        seen: list[bytes] = []
        with pytest.raises(CorruptRecordError) as caught:
            while True:
                seen += values(consumer.poll(0))
        assert sorted(seen) == [b"good"] * 6 + [b"other"]
        assert caught.value.offset == 6
        with pytest.raises(CorruptRecordError):
            next(consumer)
        consumer.seek(T0, 7)
        assert values(consumer.poll(0)) == [b"good"] * 3


def test_crcs_need_not_be_checked(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, durability="memory")
    with bus.Producer(bus_dir) as producer, reader(bus_dir, "t", check_crcs=False) as consumer:
        producer.send("t", b"spoilt")
        spoil(bus_dir, b"spoilt")
        assert values(consumer.poll(0)) == [b"Xpoilt"]


def test_deserializers_are_called_once_and_when_asked(topic: Path, producer: bus.Producer) -> None:
    calls: list[bytes] = []

    def number(data: bytes) -> int:
        calls.append(data)
        return int(data)

    producer.send("t", b"5", key=b"6", partition=0)
    producer.send("t", None, key=None, partition=0)
    with reader(topic, "t", value_deserializer=number, key_deserializer=number) as consumer:
        record = next(consumer)
        assert not calls
        assert (record.value, record.value, record.key) == (5, 5, 6)
        assert calls == [b"5", b"6"]
        assert next(consumer).value is None


def test_a_closed_consumer_says_so(topic: Path) -> None:
    consumer = reader(topic, "t")
    consumer.close()
    consumer.close()
    for call in (lambda: consumer.poll(0), consumer.assignment, lambda: consumer.seek(T0, 0)):
        with pytest.raises(ClosedError, match="make another one"):
            call()
    assert list(consumer) == []


def test_another_thread_may_not_use_a_consumer_that_is_busy(topic: Path) -> None:
    with reader(topic, "t") as consumer:
        thread = threading.Thread(target=lambda: consumer.poll(1000))
        thread.start()
        with pytest.raises(IllegalStateError, match="another thread"):
            eventually(lambda: consumer.assignment() and None, 0.9)
        thread.join()
        assert consumer.assignment() == {T0, T1, T2}
