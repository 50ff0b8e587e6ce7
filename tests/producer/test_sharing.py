"""One producer in several threads, in forked children and in spawned processes."""

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from bus.structs import TopicPartition
from tests.broker.rig import create_topic, status
from tests.children import Fork, Report

T0 = TopicPartition("t", 0)
THREADS = 8
EACH = 2000


@pytest.fixture
def topic(bus_dir: Path, broker: Broker) -> Path:
    create_topic(bus_dir)
    return bus_dir


def read(path: Path, count: int) -> list[Any]:
    with bus.Consumer("t", bootstrap_servers=path, auto_offset_reset="earliest") as consumer:
        return [next(consumer) for _ in range(count)]


def test_eight_threads_send_at_once_and_each_keeps_its_order(topic: Path) -> None:
    errors: list[BaseException] = []

    def work(producer: bus.Producer, me: int) -> None:
        try:
            for number in range(EACH):
                future = producer.send("t", b"%d" % number, key=b"%d" % me)
                if number % 100 == 0:
                    assert future.get(20).offset == future.offset
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    with bus.Producer(topic) as producer:
        threads = [threading.Thread(target=work, args=(producer, me)) for me in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert not errors
    records = read(topic, THREADS * EACH)
    for me in range(THREADS):
        mine = [int(record.value) for record in records if record.key == b"%d" % me]
        assert mine == list(range(EACH))


def test_large_records_from_two_threads_do_not_mix(topic: Path) -> None:
    def work(producer: bus.Producer, stamp: bytes) -> None:
        for _ in range(20):
            producer.send("t", stamp * 1_000_000)

    with bus.Producer(topic) as producer:
        threads = [threading.Thread(target=work, args=(producer, c)) for c in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    values = [record.value for record in read(topic, 40)]
    assert sorted(value[:1] for value in values) == [b"a"] * 20 + [b"b"] * 20
    assert all(value == value[:1] * 1_000_000 for value in values)


def test_a_forked_child_sends_with_the_producer_that_it_inherited(topic: Path, fork: Fork) -> None:
    with bus.Producer(topic) as producer:
        producer.send("t", b"before").get(10)

        def send(report: Report) -> None:
            report(producer.send("t", b"child").get(10).offset)
            producer.close()

        child = fork(send)
        assert child.next() == 1
        assert child.wait() == 0
        assert producer.send("t", b"parent").get(10).offset == 2
        pids = [client["pid"] for client in status(topic)["clients"]]
        assert os.getpid() in pids
        assert child.pid not in pids


def test_a_child_that_does_nothing_with_its_inheritance_harms_nobody(
    topic: Path, fork: Fork
) -> None:
    with (
        bus.Producer(topic) as producer,
        bus.Consumer("t", bootstrap_servers=topic, group_id="g") as consumer,
    ):
        assert consumer.poll(0) == {}
        child = fork(lambda report: report("here"))
        assert child.next() == "here"
        assert child.wait() == 0
        producer.send("t", b"x").get(10)
        assert [record.value for record in consumer.poll(5000)[T0]] == [b"x"]
        consumer.commit()
        assert consumer.committed(T0) == 1


def test_a_child_may_close_what_it_inherited_without_closing_it_for_the_parent(
    topic: Path, fork: Fork
) -> None:
    with (
        bus.Producer(topic) as producer,
        bus.Consumer("t", bootstrap_servers=topic, group_id="g") as consumer,
    ):
        consumer.poll(0)

        def close(report: Report) -> None:
            producer.close()
            consumer.close()
            report("closed")

        child = fork(close)
        assert child.next() == "closed"
        assert child.wait() == 0
        producer.send("t", b"x").get(10)
        assert [record.value for record in consumer.poll(5000)[T0]] == [b"x"]


def test_a_forked_child_consumes_as_a_member_of_its_own(topic: Path, fork: Fork) -> None:
    create_topic(topic, "two", partitions=2)
    with (
        bus.Producer(topic) as producer,
        bus.Consumer("two", bootstrap_servers=topic, group_id="g") as consumer,
    ):
        consumer.poll(0)
        assert len(consumer.assignment()) == 2

        def consume(report: Report) -> None:
            while not consumer.assignment():
                consumer.poll(100)
            report(len(consumer.assignment()))
            records = consumer.poll(10_000)
            report([record.value.decode() for found in records.values() for record in found])
            consumer.close()

        child = fork(consume)
        while len(consumer.assignment()) == 2:
            consumer.poll(20)
        assert child.next() == 1
        (mine,) = consumer.assignment()
        producer.send("two", b"parent's", partition=mine.partition)
        producer.send("two", b"child's", partition=1 - mine.partition)
        assert child.next() == ["child's"]
        assert [record.value for record in consumer.poll(5000)[mine]] == [b"parent's"]
        assert child.wait() == 0


def spawned(producer: bus.Producer, consumer: bus.Consumer, answers: Any) -> None:
    with producer, consumer:
        answers.put(producer.send("t", "from the spawned one").get(10).offset)
        record = next(consumer)
        answers.put((record.offset, record.value))


def encode(text: str) -> bytes:
    return text.encode()


def decode(data: bytes) -> str:
    return data.decode()


def test_handles_are_pickled_as_address_and_options_to_a_spawned_process(topic: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with (
        bus.Producer(topic, value_serializer=encode) as producer,
        bus.Consumer(
            "t",
            bootstrap_servers=topic,
            auto_offset_reset="earliest",
            value_deserializer=decode,
            consumer_timeout_ms=10_000,
        ) as consumer,
    ):
        producer.send("t", "from the parent").get(10)
        process = context.Process(target=spawned, args=(producer, consumer, answers))
        process.start()
        assert answers.get(timeout=20) == 1
        assert answers.get(timeout=20) == (0, "from the parent")
        process.join(20)
        assert process.exitcode == 0
        assert next(consumer).value == "from the parent"
    answers.close()
    answers.join_thread()
