"""One producer, many threads: nothing is lost, every thread's order is kept, everybody is woken."""

import os
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

import bus
from bus.errors import IllegalStateError
from tests.handles.blocked import in_thread, replica_pid, stopped

THREADS = 8
RECORDS = 2_000


def read(path: Path, topic: str = "t") -> list[bytes]:
    """All values of a topic, partition by partition."""
    found: dict[int, list[bytes]] = defaultdict(list)
    with bus.Consumer(
        topic, bootstrap_servers=path, auto_offset_reset="earliest", consumer_timeout_ms=300
    ) as consumer:
        for record in consumer:
            found[record.partition].append(bytes(record.value))
    return [value for partition in sorted(found) for value in found[partition]]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("size", [16, 70_000], ids=["small", "beside the GIL"])
def test_eight_threads_send_at_once_and_each_ones_order_is_kept(
    bus_dir: Path, broker: bus.Broker, partitions: int, size: int
) -> None:
    records = RECORDS if size < 1000 else 100
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", partitions)])
    with bus.Producer(bus_dir) as producer:
        barrier = threading.Barrier(THREADS)

        def send(thread: int) -> None:
            barrier.wait()
            padding = bytes(size)
            for number in range(0, records, 2):
                key = b"%d" % thread
                producer.send("t", b"%d %d " % (thread, number) + padding, key)
                value = b"%d %d " % (thread, number + 1) + padding
                producer.send_many("t", [value], keys=[key])

        senders = [in_thread(lambda thread=thread: send(thread)) for thread in range(THREADS)]
        assert [sender.result(40) for sender in senders] == [None] * THREADS
        producer.flush(timeout=20)
        assert producer.metrics()["producer-metrics"]["record-send-total"] == THREADS * records
    seen: dict[int, list[int]] = defaultdict(list)
    for value in read(bus_dir):
        thread, number, padding = value.split(b" ", 2)
        assert len(padding) == size
        seen[int(thread)].append(int(number))
    assert seen == {thread: list(range(records)) for thread in range(THREADS)}


def test_all_threads_that_wait_in_get_are_woken_together(bus_dir: Path, broker: bus.Broker) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        woken: list[float] = []

        def wait(future: bus.RecordFuture) -> int:
            offset = future.get(timeout=20).offset
            woken.append(time.monotonic())
            return offset

        with stopped(replica_pid(bus_dir)):
            futures = [producer.send("t", b"x") for _ in range(12)]
            waiters = [in_thread(lambda future=future: wait(future)) for future in futures]
            for waiter in waiters:
                waiter.wait_asleep()
        assert [waiter.result() for waiter in waiters] == list(range(1, 13))
        assert max(woken) - min(woken) < 0.1


def test_threads_that_only_ever_wait_for_their_own_record_do_not_wait_for_each_other(
    bus_dir: Path, broker: bus.Broker
) -> None:
    with bus.Producer(bus_dir) as producer:

        def send_and_wait() -> list[int]:
            return [producer.send("t", b"x").get(timeout=20).offset for _ in range(50)]

        outcomes = [in_thread(send_and_wait) for _ in range(THREADS)]
        offsets = [outcome.result(30) for outcome in outcomes]
    assert all(mine == sorted(mine) for mine in offsets)
    assert sorted(offset for mine in offsets for offset in mine) == list(range(50 * THREADS))


def test_threads_that_attach_to_new_topics_at_once_agree_on_them(
    bus_dir: Path, broker: bus.Broker
) -> None:
    with bus.Producer(bus_dir) as producer:

        def send(thread: int) -> None:
            for number in range(10):
                producer.send(f"t{number}", b"%d" % thread).get(timeout=20)

        senders = [in_thread(lambda thread=thread: send(thread)) for thread in range(4)]
        assert [sender.result(30) for sender in senders] == [None] * 4
    for number in range(10):
        assert sorted(read(bus_dir, f"t{number}")) == [b"0", b"1", b"2", b"3"]


def test_a_consumer_belongs_to_one_thread_at_a_time(bus_dir: Path, broker: bus.Broker) -> None:
    with bus.Consumer("t", bootstrap_servers=bus_dir) as consumer:
        polling = in_thread(lambda: consumer.poll(timeout_ms=60_000))
        while True:
            try:
                consumer.assignment()
            except IllegalStateError as error:
                assert "being used by another thread" in str(error)
                break
        with pytest.raises(IllegalStateError, match="another thread"):
            consumer.poll()
        consumer.close()
        assert polling.result() == {}


def test_callbacks_of_many_threads_all_run(bus_dir: Path, broker: bus.Broker) -> None:
    with bus.Producer(bus_dir) as producer:
        called: list[int] = []

        def send() -> None:
            for _ in range(100):
                producer.send("t", os.urandom(8)).add_callback(
                    lambda metadata: called.append(metadata.offset)
                )

        senders = [in_thread(send) for _ in range(4)]
        assert [sender.result() for sender in senders] == [None] * 4
    assert sorted(called) == list(range(400))
