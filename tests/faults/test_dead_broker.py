"""The broker is dead: what goes on, what waits, what is said, and what is left in the end."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import bus
from bus.broker import Broker
from bus.errors import BackpressureError, BrokerNotRunningError
from bus.structs import TopicPartition
from tests.broker.rig import answers, create_topic, is_alive, kill_broker, status
from tests.children import Fork, Report
from tests.faults.processes import BROKER, REPLICA, kill, processes
from tests.waiting import eventually, never

MIB = 1 << 20
VALUE = b"v" * 100_000
#: Values that fill the first segments and the spare one, several times over.
MANY = 100
MAX_BLOCK_MS = 400


@pytest.fixture
def first(bus_dir: Path) -> Iterator[Broker]:
    """A broker that the test kills; its topic "t" has small segments."""
    broker = Broker(bus_dir).start()
    create_topic(bus_dir, segment_bytes=MIB, hot_bytes=4 * MIB)
    yield broker
    broker.stop()


def test_a_producer_that_must_roll_starts_a_new_broker(bus_dir: Path, first: Broker) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"first").get(timeout=10)
        kill_broker(first)
        futures = [producer.send("t", VALUE) for _ in range(MANY)]
        assert [one.get(timeout=30).offset for one in futures] == list(range(1, MANY + 1))
        assert answers(bus_dir)
        assert status(bus_dir)["broker"]["pid"] != first.pid
        assert status(bus_dir)["counters"]["partitions_adopted"] == 1


def test_without_autostart_a_producer_that_must_roll_names_the_dead_broker(
    bus_dir: Path, first: Broker
) -> None:
    pid = first.pid
    producer = bus.Producer(bus_dir, acks=1, max_block_ms=MAX_BLOCK_MS, autostart=False)
    consumer = bus.Consumer(
        "t", bootstrap_servers=bus_dir, auto_offset_reset="earliest", autostart=False
    )
    kill_broker(first)
    stored = 0
    with pytest.raises(BackpressureError, match=rf"new hot segment.*broker \(pid {pid}\)"):
        while stored < MANY:
            started = time.monotonic()
            producer.send("t", VALUE)
            stored += 1
    assert MAX_BLOCK_MS / 1e3 <= time.monotonic() - started < 10
    assert stored >= 5  # records that needed no new segment went on without a broker
    assert read(consumer, stored) == list(range(stored))
    with Broker(bus_dir):
        assert producer.send("t", VALUE).get(timeout=10).offset == stored
        assert read(consumer, 1) == [stored]
        producer.close()
        consumer.close()


def read(consumer: bus.Consumer, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        polled = consumer.poll(timeout_ms=10_000)
        assert polled, f"nothing after {found}"
        found += [one.offset for batch in polled.values() for one in batch]
    return found


def test_a_blocked_producer_goes_on_when_a_broker_is_started(
    bus_dir: Path, first: Broker, fork: Fork
) -> None:
    def send(report: Report) -> None:
        with bus.Producer(bus_dir, acks=1, autostart=False) as producer:
            producer.send("t", VALUE)
            report("attached")
            for _ in range(MANY):
                report(producer.send("t", VALUE).get(timeout=30).offset)

    child = fork(send)
    assert child.next() == "attached"
    kill_broker(first)
    with bus.Broker(bus_dir):
        assert [child.next() for _ in range(MANY)] == list(range(1, MANY + 1))
        assert child.wait() == 0


def test_a_group_hands_over_while_the_broker_is_dead(
    bus_dir: Path, first: Broker, fork: Fork
) -> None:
    def consume(report: Report) -> None:
        consumer = member(bus_dir)
        while not consumer.assignment():
            consumer.poll(timeout_ms=50)
        report("assigned")
        while True:
            consumer.poll(timeout_ms=50)

    child = fork(consume)
    assert child.next() == "assigned"
    with member(bus_dir) as heir, bus.Producer(bus_dir, autostart=False) as producer:
        kill_broker(first)
        child.kill()
        offset = producer.send("t", b"x").get(timeout=10).offset
        assert read(heir, 1) == [offset]
        heir.commit()
        assert heir.committed(TopicPartition("t", 0)) == offset + 1
    assert not answers(bus_dir)


def member(path: Path) -> bus.Consumer:
    return bus.Consumer(
        "t",
        bootstrap_servers=path,
        group_id="g",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        autostart=False,
    )


def test_new_clients_are_told_that_no_broker_runs(bus_dir: Path, first: Broker) -> None:
    kill_broker(first)
    with pytest.raises(BrokerNotRunningError, match="bus serve"):
        bus.Producer(bus_dir, autostart=False)


def test_replicas_without_clients_end_and_the_next_start_leaves_nothing(bus_dir: Path) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        [broker] = processes_of(bus_dir, BROKER)
        kill([broker])
        orphans = [process.pid for role, process in processes(bus_dir) if role == REPLICA]
        assert orphans
        never(lambda: not all(map(is_alive, orphans)), 1.5, "a replica ended beside a client")
        assert producer.send("t", b"y").get(timeout=10).offset == 1
        assert not processes_of(bus_dir, BROKER)
    eventually(lambda: not processes(bus_dir), 5.0, "the end of the replicas")


def processes_of(path: Path, role: str) -> list[psutil.Process]:
    return [process for found, process in processes(path) if found == role]


def test_a_broker_killed_while_it_starts_is_started_again(bus_dir: Path, fork: Fork) -> None:
    def send(report: Report) -> None:
        with bus.Producer(bus_dir) as producer:
            report(producer.send("t", b"x").get(timeout=20).offset)

    child = fork(send)
    [broker] = eventually(lambda: processes_of(bus_dir, BROKER)[-1:], what="a starting broker")
    kill([broker])
    assert child.next() == 0
    assert child.wait() == 0


def test_a_stopped_broker_stops_nobody_and_its_clients_wait_for_it(bus_dir: Path) -> None:
    with Broker(bus_dir) as broker, bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"x").get(timeout=10)
        os.kill(broker.pid, signal.SIGSTOP)
        assert producer.send("t", b"y").get(timeout=10).offset == 1
        os.kill(broker.pid, signal.SIGCONT)
        assert producer.send("other", b"z").get(timeout=10).offset == 0
