"""fork, spawn and pickle: a handle attaches anew in the child, the parent notices nothing."""

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import BusError, ClosedError
from tests.broker.rig import status
from tests.children import Fork, Report
from tests.handles.blocked import (
    fill_queue,
    in_thread,
    is_asleep,
    make_queue,
    replica_pid,
    stopped,
)
from tests.waiting import eventually


@pytest.fixture
def producer(bus_dir: Path, broker: bus.Broker) -> Iterator[bus.Producer]:
    with bus.Producer(bus_dir, client_id="parent") as producer:
        producer.send("t", b"before").get(timeout=10)
        yield producer


def clients(path: Path) -> list[tuple[int, str]]:
    """Process and name of every attached program."""
    rows = status(path)["clients"]
    return sorted((row["pid"], row["client_id"]) for row in rows if row["role"] != "replica")


def reader(path: Path, **options: Any) -> bus.Consumer:
    return bus.Consumer("t", bootstrap_servers=path, auto_offset_reset="earliest", **options)


def next_value(consumer: bus.Consumer) -> bytes:
    [[record]] = consumer.poll(timeout_ms=10_000, max_records=1).values()
    return bytes(record.value)


def test_a_child_uses_an_inherited_producer_as_a_client_of_its_own(
    bus_dir: Path, producer: bus.Producer, fork: Fork
) -> None:
    def send(report: Report) -> None:
        report(producer.send("t", b"child").get(timeout=10).offset)
        report(clients(bus_dir))
        producer.close()
        report(clients(bus_dir))

    child = fork(send)
    assert child.next() == 1
    assert sorted(map(tuple, child.next())) == sorted(
        [(os.getpid(), "parent"), (child.pid, "parent")]
    )
    assert list(map(tuple, child.next())) == [(os.getpid(), "parent")]
    assert child.wait() == 0
    assert producer.send("t", b"parent").get(timeout=10).offset == 2
    with reader(bus_dir) as consumer:
        assert [next_value(consumer) for _ in range(3)] == [b"before", b"child", b"parent"]


def test_parent_and_children_may_send_at_once(
    bus_dir: Path, producer: bus.Producer, fork: Fork
) -> None:
    def send(report: Report) -> None:
        for _ in range(500):
            producer.send("t", b"%d" % os.getpid())
        producer.flush()
        report("sent")

    children = [fork(send) for _ in range(3)]
    for _ in range(500):
        producer.send("t", b"%d" % os.getpid())
    producer.flush()
    assert [child.next() for child in children] == ["sent"] * 3
    with bus.Consumer(bootstrap_servers=bus_dir) as consumer:
        tp = bus.TopicPartition("t", 0)
        assert consumer.end_offsets([tp])[tp] == 1 + 4 * 500


def test_a_child_may_wait_for_a_record_that_its_parent_sent(
    bus_dir: Path, producer: bus.Producer, fork: Fork
) -> None:
    with stopped(replica_pid(bus_dir)):
        future = producer.send("t", b"x")

        def wait(report: Report) -> None:
            report("waiting")
            report(future.get(timeout=20).offset)
            report(len(clients(bus_dir)))

        child = fork(wait)
        assert child.next() == "waiting"
        mine = in_thread(lambda: future.get(timeout=20).offset)
        eventually(lambda: is_asleep(child.pid), what="the child waits")
    assert child.next() == 1
    assert mine.result() == 1
    assert child.next() == 2


def test_a_child_reads_with_an_inherited_consumer_without_disturbing_its_parent(
    bus_dir: Path, producer: bus.Producer, fork: Fork
) -> None:
    producer.send_many("t", [b"%d" % number for number in range(10)])
    with reader(bus_dir) as consumer:
        assert next_value(consumer) == b"before"
        held = consumer.poll(timeout_ms=5000, max_records=2)

        def read(report: Report) -> None:
            [records] = held.values()
            report([bytes(record.value).decode() for record in records])
            report(next_value(consumer).decode())
            consumer.close()

        child = fork(read)
        assert child.next() == ["0", "1"]
        assert child.next() == "before"  # without a group it begins where the policy says
        assert child.wait() == 0
        assert [next_value(consumer) for _ in range(8)] == [b"%d" % n for n in range(2, 10)]


def test_a_child_joins_its_parents_group_as_another_member(
    bus_dir: Path, broker: bus.Broker, fork: Fork
) -> None:
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", 2)])
    with reader(bus_dir, group_id="g") as consumer:
        consumer.poll()
        assert len(consumer.assignment()) == 2

        def read(report: Report) -> None:
            def has_one() -> bool:
                consumer.poll(timeout_ms=50)
                return len(consumer.assignment()) == 1

            eventually(has_one, what="one partition for the child")
            report("joined")
            signal.pause()

        child = fork(read)

        def shared() -> bool:
            consumer.poll(timeout_ms=20)
            return len(consumer.assignment()) == 1

        eventually(shared, what="one partition for the parent")
        assert child.next() == "joined"
        child.kill()

        def alone() -> bool:
            consumer.poll(timeout_ms=20)
            return len(consumer.assignment()) == 2

        eventually(alone, what="both partitions again")


def test_the_death_of_a_parent_is_seen_while_its_child_lives_on(
    bus_dir: Path, broker: bus.Broker, fork: Fork
) -> None:
    make_queue(bus_dir)

    def live_on(report: Report) -> None:
        signal.pause()

    def parent(report: Report) -> None:
        with bus.Consumer("q", bootstrap_servers=bus_dir, client_id="dead") as consumer:
            consumer.poll()
            child = os.fork()
            if child == 0:
                signal.pause()
            report(child)
            signal.pause()

    dying = fork(parent)
    orphan = dying.next()
    try:
        with bus.Producer(bus_dir) as producer:
            blocked = in_thread(lambda: fill_queue(producer, most=200))
            eventually(lambda: len(clients(bus_dir)) == 2, what="both are attached")
            dying.kill()
            # nobody reads now: the ring of a memory topic without readers drops its oldest
            assert "never full" in str(blocked.result(20))
            eventually(lambda: len(clients(bus_dir)) == 1, what="the dead one is gone")
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_child_that_never_uses_what_it_inherited_leaves_it_alone(
    bus_dir: Path, producer: bus.Producer, fork: Fork
) -> None:
    with reader(bus_dir, group_id="g") as consumer:
        assert next_value(consumer) == b"before"

        def idle(report: Report) -> None:
            producer.close()
            consumer.close()
            with contextlib.suppress(ClosedError):
                producer.send("t", b"x")
            report(len(clients(bus_dir)))

        child = fork(idle)
        assert child.next() == 2
        assert child.wait() == 0
        assert producer.send("t", b"after").get(timeout=10).offset == 1
        assert next_value(consumer) == b"after"


def test_a_fork_while_other_threads_use_the_handles_leaves_no_lock_behind(
    bus_dir: Path, producer: bus.Producer, fork: Fork
) -> None:
    consumer = reader(bus_dir)
    sending = threading_flag()
    senders = [in_thread(lambda: keep_sending(producer, sending)) for _ in range(3)]
    polling = in_thread(lambda: keep_polling(consumer, sending))

    def use(report: Report) -> None:
        report(producer.send("t", b"child").get(timeout=10).offset > 0)
        report(len(consumer.poll(timeout_ms=10_000)) > 0)
        producer.send("t", b"child").add_callback(lambda metadata: report(metadata.offset > 0))
        producer.close()
        consumer.close()

    try:
        for _ in range(5):
            child = fork(use)
            assert [child.next() for _ in range(3)] == [True] * 3
            assert child.wait() == 0
    finally:
        sending.clear()
    assert [sender.result() for sender in senders] == [None] * 3
    assert polling.result() is None
    consumer.close()


def threading_flag() -> Any:
    import threading

    flag = threading.Event()
    flag.set()
    return flag


def keep_sending(producer: bus.Producer, going: Any) -> None:
    while going.is_set():
        producer.send("t", b"parent").add_callback(lambda metadata: None)
        producer.flush()


def keep_polling(consumer: bus.Consumer, going: Any) -> None:
    while going.is_set():
        consumer.poll(timeout_ms=20)


# ------------------------------------------------------------------ multiprocessing, and pickle


def use_both(producer: bus.Producer, consumer: bus.Consumer, answers: Any) -> None:
    """In another process: reads one record, and sends its value back."""
    try:
        [[record]] = consumer.poll(timeout_ms=10_000, max_records=1).values()
        offset = producer.send("back", bytes(record.value)).get(timeout=10).offset
        answers.put((os.getpid(), offset))
        producer.close()
        consumer.close()
    except BusError as error:
        answers.put((os.getpid(), str(error)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_handles_may_be_given_to_processes_of_multiprocessing(
    bus_dir: Path, producer: bus.Producer, method: str
) -> None:
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    with reader(bus_dir) as consumer:
        process = context.Process(target=use_both, args=(producer, consumer, answers))
        process.start()
        process.join(20)
        assert process.exitcode == 0
        assert answers.get() == (process.pid, 0)
        assert next_value(consumer) == b"before"
        assert producer.send("back", b"parent").get(timeout=10).offset == 1


def test_a_pickled_handle_keeps_its_options(bus_dir: Path, broker: bus.Broker) -> None:
    with (
        bus.Producer(
            bus_dir, client_id="mine", acks=1, max_block_ms=7, key_serializer=ascii_bytes
        ) as producer,
        pickle.loads(pickle.dumps(producer)) as copy,
    ):
        assert copy._options == producer._options
        assert copy.send("t", b"x", "key").get().serialized_key_size == 3
    with pickle.loads(pickle.dumps(producer)) as copy:  # a closed one too
        assert copy.send("t", b"y").get().offset == 1
    with (
        reader(bus_dir, group_id="g", max_poll_records=1, read_until="durable") as consumer,
        pickle.loads(pickle.dumps(consumer)) as twin,
    ):
        assert twin._options == consumer._options
        assert twin.subscription() == {"t"}
        assert twin.group_metadata().group_id == "g"


def ascii_bytes(text: str) -> bytes:
    """A serializer that pickles by its name."""
    return text.encode("ascii")
