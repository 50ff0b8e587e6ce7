"""What a send returns, and when it has succeeded."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from bus.errors import (
    BusTimeoutError,
    ClosedError,
    RecordsLostError,
    ReplicaFailedError,
    UnknownTopicOrPartitionError,
)
from bus.structs import RecordMetadata, TopicPartition
from tests.broker.rig import ask, create_topic, replica
from tests.waiting import eventually

T0 = TopicPartition("t", 0)


@contextmanager
def frozen_replica(path: Path) -> Iterator[int]:
    """The replica of t-0 does nothing meanwhile; its pid."""
    pid = replica(path)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def topic(bus_dir: Path, broker: Broker) -> Path:
    create_topic(bus_dir)
    return bus_dir


def test_the_metadata_say_where_the_record_is(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        producer.send("t", b"first")
        future = producer.send("t", b"value", key=b"key", timestamp_ms=1234)
        assert future.get(10) == RecordMetadata("t", 0, 1, 1234, 3, 5)
        assert future.get(10).topic_partition == T0
        nothing = producer.send("t", None).get(10)
        assert (nothing.serialized_key_size, nothing.serialized_value_size) == (-1, -1)
        now = time.time() * 1000
        assert abs(producer.send("t", b"").get(10).timestamp - now) < 5000


@pytest.mark.parametrize("acks", [0, 1])
def test_without_durability_a_future_succeeds_at_once(topic: Path, acks: Any) -> None:
    with frozen_replica(topic), bus.Producer(topic, acks=acks) as producer:
        future = producer.send("t", b"x")
        assert future.is_done
        assert future.succeeded()
        assert not future.failed()
        assert future.value == future.get(0)
        producer.flush(0)


@pytest.mark.parametrize("acks", ["all", -1])
def test_with_acks_all_a_future_succeeds_when_the_replica_has_synced(
    topic: Path, acks: Any
) -> None:
    with bus.Producer(topic, acks=acks) as producer:
        with frozen_replica(topic):
            future = producer.send("t", b"x")
            assert not future.is_done
            assert future.value is None
            assert future.exception is None
        assert future.get(10).offset == 0
        assert future.is_done


def test_a_get_that_takes_too_long_names_the_replica(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        with frozen_replica(topic) as pid:
            future = producer.send("t", b"x")
            begun = time.monotonic()
            with pytest.raises(BusTimeoutError, match=f"pid {pid}"):
                future.get(0.3)
            assert 0.29 < time.monotonic() - begun < 2
            with pytest.raises(TimeoutError):
                producer.flush(0)
        future.get(10)


def test_callbacks_are_called_in_order_with_their_arguments(topic: Path) -> None:
    calls: list[tuple[Any, ...]] = []

    def note(number: int, metadata: RecordMetadata, tag: int) -> None:
        calls.append((number, metadata.offset, tag))

    with bus.Producer(topic) as producer:
        with frozen_replica(topic):
            for number in range(100):
                future = producer.send("t", b"x")
                future.add_callback(
                    lambda n, m, tag: calls.append((n, m.offset, tag)), number, tag=1
                )
                future.add_errback(calls.append)
            assert not calls
        eventually(lambda: len(calls) == 100, what="all callbacks")
    assert calls == [(number, number, 1) for number in range(100)]


def test_a_callback_of_a_finished_future_is_called_at_once(topic: Path) -> None:
    calls: list[Any] = []
    with bus.Producer(topic, acks=1) as producer:
        future = producer.send("t", b"x")
        assert future.add_callback(calls.append).add_both(calls.append) is future
    assert [metadata.offset for metadata in calls] == [0, 0]


def test_a_callback_that_raises_is_logged_and_the_next_one_is_called(
    topic: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = []

    def wrong(_: Any) -> None:
        raise ValueError("mine")

    with bus.Producer(topic) as producer:
        with frozen_replica(topic):
            producer.send("t", b"x").add_callback(wrong).add_callback(calls.append)
        eventually(lambda: calls, what="the second callback")
    assert "mine" in caplog.text


def test_close_calls_every_callback_first(topic: Path) -> None:
    calls: list[Any] = []
    producer = bus.Producer(topic)
    for _ in range(1000):
        producer.send("t", b"x").add_callback(calls.append)
    producer.close()
    assert len(calls) == 1000


def test_a_deleted_topic_fails_its_open_futures_and_flush_tells_it_once(topic: Path) -> None:
    errors: list[Any] = []
    create_topic(topic, "other")
    with bus.Producer(topic) as producer, frozen_replica(topic):
        future = producer.send("t", b"x").add_errback(errors.append)
        other = producer.send("other", b"x")
        ask(topic, "delete_topics", names=["t"])
        with pytest.raises(UnknownTopicOrPartitionError):
            future.get(10)
        assert future.failed()
        eventually(lambda: errors, what="errback")
        assert isinstance(errors[0], UnknownTopicOrPartitionError)
        with pytest.raises(UnknownTopicOrPartitionError):
            producer.flush(10)
        assert other.is_done
        producer.flush(0)


def test_a_replica_that_failed_fails_the_future_with_its_report(topic: Path) -> None:
    producer = bus.Producer(topic)
    in_the_way = topic / "topics/t/0/00000000000000000000.log.tmp"
    with frozen_replica(topic):
        in_the_way.mkdir()
        future = producer.send("t", b"x")
    with pytest.raises(ReplicaFailedError, match="could not be copied to a new file") as caught:
        future.get(10)
    assert "bus check" in str(caught.value)
    assert isinstance(future.exception, ReplicaFailedError)
    with pytest.raises(ReplicaFailedError):
        producer.close()
    in_the_way.rmdir()
    ask(topic, "delete_topics", names=["t"])


def test_a_record_damaged_before_it_was_durable_fails_its_own_future_alone(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        producer.send("t", b"good").get(10)
        with frozen_replica(topic):
            future = producer.send("t", b"spoilt" * 100)
            behind = producer.send("t", b"good again")
            spoil(topic, b"spoilt")
        with pytest.raises(RecordsLostError, match="send them again"):
            future.get(10)
        assert isinstance(future.exception, RecordsLostError)
        assert behind.get(10).offset == 2
        with pytest.raises(RecordsLostError):
            producer.flush()
    ask(topic, "delete_topics", names=["t"])


def spoil(path: Path, text: bytes) -> None:
    """Overwrites a record in RAM, as a wild pointer in some producer would."""
    with bus.Consumer(bootstrap_servers=path) as consumer:
        hot = consumer._fetcher.client.directory.read_runtime().hot_dir
    for file in Path(hot).glob("*.seg"):
        data = file.read_bytes()
        at = data.find(text)
        if at >= 0:
            with file.open("r+b") as opened:
                opened.seek(at)
                opened.write(b"X")


def test_a_future_can_be_awaited(topic: Path) -> None:
    async def send_all() -> list[int]:
        with bus.Producer(topic) as producer:
            futures = [producer.send("t", b"x") for _ in range(200)]
            return [metadata.offset for metadata in await asyncio.gather(*futures)]

    assert asyncio.run(send_all()) == list(range(200))


def test_awaiting_leaves_the_loop_free(topic: Path) -> None:
    async def main() -> int:
        ticks = 0
        with bus.Producer(topic) as producer, frozen_replica(topic):
            future = asyncio.ensure_future(producer.send("t", b"x"))
            while ticks < 5:
                await asyncio.sleep(0.01)
                assert not future.done()
                ticks += 1
            os.kill(replica_pid(producer), signal.SIGCONT)
            await future
        return ticks

    assert asyncio.run(main()) == 5


def replica_pid(producer: bus.Producer) -> int:
    return next(iter(producer._partitions.values())).replica_pid


def test_flush_waits_for_everything_sent(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        futures = [producer.send("t", bytes(1000)) for _ in range(5000)]
        producer.flush(20)
        assert all(future.is_done for future in futures)


def test_close_is_idempotent_and_a_closed_producer_says_so(topic: Path) -> None:
    producer = bus.Producer(topic)
    future = producer.send("t", b"x")
    threads = [threading.Thread(target=producer.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    producer.close()
    assert future.get(0).offset == 0
    for call in (
        lambda: producer.send("t", b"x"),
        lambda: producer.send_many("t", [b"x"]),
        producer.flush,
        lambda: producer.partitions_for("t"),
    ):
        with pytest.raises(ClosedError, match="make another one"):
            call()
    with bus.Consumer("t", bootstrap_servers=topic) as consumer:
        assert consumer.end_offsets([T0])[T0] == 1


def test_metrics_count_what_was_sent(topic: Path) -> None:
    with bus.Producer(topic) as producer:
        producer.send("t", b"12345")
        producer.send_many("t", [b"1"] * 200)
        producer.flush(10)
        figures = producer.metrics()["producer-metrics"]
        assert figures["record-send-total"] == 201
        assert figures["byte-total"] == 205
        assert figures["records-not-durable-max"] == 0
        assert figures["replica-fsync-ms-max"] > 0
