"""close(): from another thread, from a signal handler, twice, in the middle of anything."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import BusTimeoutError, ClosedError
from tests.buses import shared_objects
from tests.handles.blocked import (
    fill_queue,
    in_thread,
    make_queue,
    replica_pid,
    stopped,
)
from tests.waiting import eventually

SOON_S = 2.0
#: the close comes after AFTER_S; without a wake-up, a poll would look after a second
AFTER_S = 0.1
AT_ONCE_S = 0.5


@contextmanager
def from_a_handler(call: Callable[[], object], after_s: float = AFTER_S) -> Iterator[None]:
    """Runs `call` in the main thread, in a signal handler, while the block is blocking there."""

    def handle(*_: object) -> None:
        call()

    before = signal.signal(signal.SIGALRM, handle)
    timer = threading.Timer(
        after_s, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
    )
    timer.start()
    try:
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGALRM, before)


@contextmanager
def from_a_thread(call: Callable[[], object], after_s: float = AFTER_S) -> Iterator[None]:
    """Runs `call` in another thread while the block is blocking in this one."""
    timer = threading.Timer(after_s, call)
    timer.start()
    yield
    timer.join(SOON_S)
    assert not timer.is_alive()


@pytest.fixture(params=[from_a_thread, from_a_handler], ids=["thread", "handler"])
def meanwhile(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def queue(bus_dir: Path, broker: bus.Broker) -> Path:
    make_queue(bus_dir)
    return bus_dir


@pytest.mark.parametrize("group", [None, "g"])
def test_close_ends_a_poll_which_returns_nothing(
    bus_dir: Path, broker: bus.Broker, meanwhile: Any, group: str | None
) -> None:
    consumer = bus.Consumer("t", bootstrap_servers=bus_dir, group_id=group)
    with meanwhile(consumer.close):
        started = time.monotonic()
        assert consumer.poll(timeout_ms=60_000) == {}
        assert time.monotonic() - started < AT_ONCE_S
    with pytest.raises(ClosedError):
        consumer.poll()
    assert clients(bus_dir) == set()


@pytest.mark.parametrize("group", [None, "g"])
def test_close_ends_an_iteration(
    bus_dir: Path, broker: bus.Broker, meanwhile: Any, group: str | None
) -> None:
    consumer = bus.Consumer("t", bootstrap_servers=bus_dir, group_id=group)
    with meanwhile(consumer.close):
        started = time.monotonic()
        assert list(consumer) == []
        assert time.monotonic() - started < AT_ONCE_S
    assert list(consumer) == []
    assert clients(bus_dir) == set()


def test_close_ends_a_blocked_send_with_a_closed_error(queue: Path, meanwhile: Any) -> None:
    with bus.Consumer("q", bootstrap_servers=queue, auto_offset_reset="earliest") as consumer:
        consumer.poll()
        producer = bus.Producer(queue)
        with meanwhile(producer.close), pytest.raises(ClosedError, match="make another one"):
            fill_queue(producer)
        with pytest.raises(ClosedError):
            producer.send("q", b"x")
        assert clients(queue) == {"consumer"}


def test_close_ends_a_get_with_a_closed_error_that_says_what_became_of_the_record(
    bus_dir: Path, broker: bus.Broker, meanwhile: Any
) -> None:
    producer = bus.Producer(bus_dir)
    producer.send("t", b"x").get(timeout=10)

    def close() -> None:
        with pytest.raises(BusTimeoutError):
            producer.close(timeout=0)

    with stopped(replica_pid(bus_dir)):
        future = producer.send("t", b"y")
        with (
            meanwhile(close),
            pytest.raises(ClosedError, match="closed before offset 1 was durable"),
        ):
            future.get(timeout=30)
    with bus.Producer(bus_dir) as again:
        assert again.send("t", b"z").get(timeout=10).offset == 2
    assert future.get(timeout=10).offset == 1


def test_close_waits_for_what_was_sent(bus_dir: Path, broker: bus.Broker) -> None:
    producer = bus.Producer(bus_dir)
    producer.send("t", b"x").get(timeout=10)
    with stopped(replica_pid(bus_dir)):
        future = producer.send("t", b"y")
        closing = in_thread(producer.close).wait_asleep()
        assert not future.is_done
    assert closing.result() is None
    assert future.is_done


def test_many_threads_may_close_at_once(bus_dir: Path, broker: bus.Broker) -> None:
    for make in (
        lambda: bus.Producer(bus_dir),
        lambda: bus.Consumer("t", bootstrap_servers=bus_dir, group_id="g"),
        lambda: bus.Admin(bus_dir),
    ):
        handle = make()
        barrier = threading.Barrier(8)

        def close(handle: Any = handle, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            handle.close()

        outcomes = [in_thread(close) for _ in range(8)]
        assert [outcome.result() for outcome in outcomes] == [None] * 8
        eventually(lambda: clients(bus_dir) == set(), what="the client is gone")


def test_closing_a_producer_while_threads_send_ends_each_with_a_closed_error(
    bus_dir: Path, broker: bus.Broker
) -> None:
    producer = bus.Producer(bus_dir)
    taken = [0] * 4

    def send(number: int) -> None:
        while True:
            producer.send("t", b"x")
            taken[number] += 1

    senders = [in_thread(lambda number=number: send(number)) for number in range(4)]
    eventually(lambda: all(count > 100 for count in taken), what="all threads send")
    producer.close()
    assert {type(sender.result()) for sender in senders} == {ClosedError}
    with bus.Consumer(bootstrap_servers=bus_dir) as consumer:
        tp = bus.TopicPartition("t", 0)
        assert consumer.end_offsets([tp]) == {tp: sum(taken)}


def test_another_client_may_take_the_place_while_threads_still_wait_for_the_closed_one(
    bus_dir: Path, broker: bus.Broker
) -> None:
    producer = bus.Producer(bus_dir)
    producer.send("t", b"x").get(timeout=10)
    with stopped(replica_pid(bus_dir)):
        future = producer.send("t", b"y")
        waiters = [in_thread(lambda: future.get(timeout=30)) for _ in range(6)]
        for waiter in waiters:
            waiter.wait_asleep()
        with pytest.raises(BusTimeoutError):
            producer.close(timeout=0.1)
        others = [bus.Producer(bus_dir) for _ in range(4)]
        assert {type(waiter.result()) for waiter in waiters} == {ClosedError}
    for other in others:
        other.send("t", b"z").get(timeout=10)
        other.close()


def test_records_outlive_the_consumer_that_is_closed_between_two_of_them(
    bus_dir: Path, broker: bus.Broker
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b"%d" % number for number in range(10)])
        producer.flush()
    consumer = bus.Consumer("t", bootstrap_servers=bus_dir, auto_offset_reset="earliest")
    held = []
    for record in consumer:
        held.append(record)
        if len(held) == 3:
            consumer.close()
    assert [bytes(record.value) for record in held] == [b"0", b"1", b"2"]


def test_a_handle_that_was_closed_leaves_nothing_behind(bus_dir: Path, broker: bus.Broker) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        before = doorbells(bus_dir)
        for _ in range(3):
            bus.Producer(bus_dir).close()
            bus.Consumer("t", bootstrap_servers=bus_dir, group_id="g").close()
            bus.Admin(bus_dir).close()
        assert doorbells(bus_dir) == before


def doorbells(path: Path) -> list[str]:
    """Semaphores of this bus."""
    bus_id = (path / "bus.json").read_text().split('"bus_id": "')[1][:16]
    return [name for name in shared_objects({bus_id}) if name.startswith("sem.")]


def clients(path: Path) -> set[str]:
    """The client ids of all attached programs."""
    from tests.broker.rig import status

    rows = status(path)["clients"]
    return {row["client_id"] for row in rows if row["role"] != "replica"}
