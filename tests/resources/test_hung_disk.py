"""A disk that does not answer: what must be durable waits, and says for what; all else goes on."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from bus.errors import BusTimeoutError
from tests.broker.rig import create_topic, is_alive, replica, status
from tests.buses import bus_processes
from tests.children import Fork, Report
from tests.handles.blocked import make_queue
from tests.resources.preload import disk_in
from tests.waiting import eventually

CONFIG = bus.BrokerConfig(offsets_sync_ms=1)
T0 = bus.TopicPartition("t", 0)
#: what needs no disk may take so long on a busy machine, in seconds
SOON_S = 5.0


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """While this file exists, no sync of the broker and its children comes back."""
    with disk_in(tmp_path) as gate:
        yield gate


@contextmanager
def hanging(gate: Path) -> Iterator[None]:
    gate.touch()
    try:
        yield
    finally:
        gate.unlink()


@contextmanager
def soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < SOON_S, f"it took {took:.1f} s"


def read_one(consumer: bus.Consumer) -> bytes:
    (records,) = consumer.poll(timeout_ms=SOON_S * 1000, max_records=1).values()
    return records[0].value


def syncers(path: Path) -> list[int]:
    return [one.pid for one in bus_processes(path) if one.name() == "bus-syncer"]


def test_while_the_disk_hangs_only_what_must_be_durable_waits(bus_dir: Path, gate: Path) -> None:
    with bus.Broker(bus_dir, config=CONFIG), bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"0").get(timeout=20)
        make_queue(bus_dir)
        options = {"bootstrap_servers": bus_dir, "auto_offset_reset": "earliest", "group_id": "g"}
        with bus.Consumer("t", **options) as consumer:
            assert read_one(consumer) == b"0"
            with hanging(gate):
                future = producer.send("t", b"1")
                pid = replica(bus_dir)["pid"]
                with pytest.raises(
                    BusTimeoutError,
                    match=rf"replica pid {pid} is at offset 1 of 2, it has waited 0\.\d s for its",
                ):
                    future.get(timeout=0.5)
                until = time.monotonic() + 2.5  # more than one round of the broker's
                while time.monotonic() < until:
                    with soon():
                        producer.send("q", b"memory").get(timeout=SOON_S)
                        with bus.Producer(bus_dir, acks=1) as another:  # the broker answers
                            another.send("t", b"2").get(timeout=SOON_S)
                        assert read_one(consumer) in (b"1", b"2")
                        consumer.commit()
                        assert consumer.committed(T0) is not None
                        with bus.Consumer("t", **options | {"group_id": "g"}) as member:
                            member.poll(timeout_ms=10)  # a join
                        shown = status(bus_dir)
                assert shown["replicas"][0]["sync_ms"] > 500
                with pytest.raises(BusTimeoutError, match=r"it has waited [1-9]\d*\.\d s"):
                    future.get(timeout=0)
            assert future.get(timeout=20).offset == 1
        eventually(lambda: replica(bus_dir)["sync_ms"] == 0, what="the replica waits no more")


def test_a_request_that_must_be_on_disk_says_that_the_broker_waits_for_it(
    bus_dir: Path, gate: Path
) -> None:
    with bus.Broker(bus_dir, config=CONFIG), bus.Producer(bus_dir, acks=1) as producer:
        producer.send("t", b"0")
        with bus.Admin(bus_dir, request_timeout_ms=500) as admin, hanging(gate):
            with soon(), pytest.raises(BusTimeoutError, match=r"pid \d+\).* did not answer"):
                admin.create_topics([bus.NewTopic("new")])
            with soon():
                assert producer.send("t", b"1").get(timeout=SOON_S).offset == 1
        eventually(lambda: status(bus_dir), what="the broker goes on")
        assert {one["topic"] for one in status(bus_dir)["replicas"]} == {"new", "t"}


def test_a_syncer_that_is_killed_is_replaced_and_what_it_was_asked_for_is_written_again(
    bus_dir: Path, gate: Path
) -> None:
    with bus.Broker(bus_dir, config=CONFIG), bus.Producer(bus_dir) as producer:
        producer.send("t", b"0").get(timeout=20)
        with bus.Consumer(
            "t", bootstrap_servers=bus_dir, auto_offset_reset="earliest", group_id="g"
        ) as consumer:
            assert read_one(consumer) == b"0"
            consumer.commit()
            first = eventually(lambda: syncers(bus_dir))
            before = status(bus_dir)["counters"]["call_retried"]
            with hanging(gate):
                consumer.commit()
                os.kill(first[0], signal.SIGKILL)  # in a sync, or before one
                eventually(lambda: not is_alive(first[0]))
            eventually(lambda: status(bus_dir)["counters"]["call_retried"] > before)
            consumer.commit()
            eventually(lambda: syncers(bus_dir) not in ([], first), what="another one")


def test_a_broker_that_is_killed_while_its_disk_hangs_is_followed_by_one_that_waits_for_it(
    bus_dir: Path, gate: Path, fork: Fork
) -> None:
    """The new one cannot raise its epoch before; a caller is told, and nothing is left of it."""
    with bus.Broker(bus_dir, config=CONFIG) as first, bus.Producer(bus_dir, acks=1) as producer:
        producer.send("t", b"0")
        with hanging(gate):
            producer.send("t", b"1")
            os.kill(first.pid, signal.SIGKILL)
            first.stop()

            def start(report: Report) -> None:
                with bus.Broker(bus_dir) as second:
                    report(second.epoch)
                    signal.pause()

            second = fork(start)
            with soon():
                assert producer.send("t", b"2").get(timeout=SOON_S).offset == 2
        assert second.next(30) == 2
        assert producer.send("t", b"3").get(timeout=20).offset == 3


def test_records_that_waited_for_the_disk_are_there_after_everything_was_killed(
    bus_dir: Path, gate: Path
) -> None:
    create_options = {"segment_bytes": 1 << 20, "hot_bytes": 8 << 20}
    with bus.Broker(bus_dir, config=CONFIG) as broker, bus.Producer(bus_dir, acks=1) as producer:
        create_topic(bus_dir, **create_options)
        with hanging(gate):
            for number in range(300):
                producer.send("t", b"%d" % number + bytes(10_000))
            for pid in (replica(bus_dir)["pid"], broker.pid):
                os.kill(pid, signal.SIGKILL)
            broker.stop()
    with (
        bus.Broker(bus_dir),
        bus.Consumer(
            "t", bootstrap_servers=bus_dir, auto_offset_reset="earliest", read_until="durable"
        ) as consumer,
    ):
        for number in range(300):
            assert next(consumer).value == b"%d" % number + bytes(10_000)
