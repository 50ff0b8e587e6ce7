"""Brokers, replicas and consumers that are stopped: never two of a kind, and all others go on."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import bus
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import BackpressureError, BrokerAlreadyRunningError, BusTimeoutError
from tests.broker.rig import answers, is_alive, status
from tests.buses import bus_processes
from tests.children import Fork, Report
from tests.faults.witness import read_all
from tests.handles.blocked import make_queue, replica_pid, stopped
from tests.stops.holding import PARTITION_LOCK, control_file, wait_stopped
from tests.waiting import eventually

MIB = 1 << 20
CHUNK = bytes(64 << 10)
#: the broker of a directory, which stops in the lock of t-0 when it is asked to make a spare
STOPPING_BROKER = """
import sys
from pathlib import Path
from bus import rings, supervisor
from tests.stops.holding import hold
real = rings.Rings.feed
def feed(self, log, need=0, **options):
    if need == 1:
        hold(Path(sys.argv[2]), int(sys.argv[3]))
    return real(self, log, need, **options)
rings.Rings.feed = feed
supervisor.main([sys.argv[1]])
"""


def kill(broker: bus.Broker) -> None:
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()


def test_a_second_broker_is_refused_beside_one_that_is_stopped_and_told_its_pid(
    broker: bus.Broker, bus_dir: Path
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        with stopped(broker.pid):
            wait_stopped(broker.pid)
            with pytest.raises(
                BrokerAlreadyRunningError,
                match=rf"pid {broker.pid} \(state T \(stopped\): let it continue with kill -CONT",
            ):
                bus.Broker(bus_dir).start()
            assert producer.send("t", b"y").get(timeout=10).offset == 1
        assert status(bus_dir)["broker"]["epoch"] == broker.epoch


def test_a_stopped_broker_holds_up_only_what_needs_it_and_is_named(
    broker: bus.Broker, bus_dir: Path
) -> None:
    """Requests that want no answer are not waited for, however many lie there unread."""
    with bus.Producer(bus_dir, max_block_ms=300) as producer:
        producer.send("t", b"x").get(timeout=10)
        with stopped(broker.pid):
            wait_stopped(broker.pid)
            names = rf"\(pid {broker.pid}\) \(state T \(stopped\)"
            started = time.monotonic()
            with pytest.raises(BusTimeoutError, match=names):
                producer.send("new", b"x")
            assert time.monotonic() - started < 2
            with pytest.raises(BackpressureError, match=names):
                for _ in range(100):
                    producer.send("t", CHUNK)
            started = time.monotonic()
            for _ in range(5000):  # more than the socket holds
                producer._client.send("tend", topic="t", partition=0)
            assert time.monotonic() - started < 5
            with BusDirectory.open(bus_dir) as directory:
                client = ControlClient(directory, timeout_s=0.2)
                with pytest.raises(BusTimeoutError, match=names):
                    client.call("status")
                client.close()
        assert producer.send("t", b"last").get(timeout=10)


def test_a_broker_that_is_stopped_in_a_lock_holds_senders_up_no_longer_than_they_allow(
    bus_dir: Path, fork: Fork
) -> None:
    with bus.Broker(bus_dir) as first, bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"0").get(timeout=10)
        file = control_file(bus_dir, "t")
        kill(first)

        def serve(_report: Report) -> None:
            words = ["-c", STOPPING_BROKER, str(bus_dir), str(file), str(PARTITION_LOCK)]
            os.execv(sys.executable, [sys.executable, *words])

        second = fork(serve)
        eventually(lambda: answers(bus_dir), what="the second broker answers")
        with (
            bus.Consumer(
                "t", bootstrap_servers=bus_dir, auto_offset_reset="earliest", autostart=False
            ) as reader,
            bus.Producer(bus_dir, max_block_ms=300, autostart=False) as blocked,
        ):
            assert blocked.send("t", b"1").get(timeout=10).offset == 1
            blocked._client.send("tend", topic="t", partition=0, need=1)
            wait_stopped(second.pid)
            with pytest.raises(
                BusTimeoutError, match=rf"t-0 was locked for 300 ms by pid {second.pid} \(.*state T"
            ):
                blocked.send("t", b"never")
            assert [next(reader).value, next(reader).value] == [b"0", b"1"]
            second.send(signal.SIGCONT)
            assert blocked.send("t", b"2").get(timeout=10).offset == 2


def test_a_stopped_replica_holds_up_its_partition_alone_and_is_named(
    broker: bus.Broker, bus_dir: Path
) -> None:
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", 1, topic_configs={"hot.bytes": str(4 * MIB)})])
        admin.create_topics([bus.NewTopic("u")])
    make_queue(bus_dir)
    pid = replica_pid(bus_dir)
    with bus.Producer(bus_dir, max_block_ms=300) as producer:
        producer.send("t", b"x").get(timeout=10)
        with stopped(pid):
            named = rf"replica pid {pid} \(state T \(stopped\): let it continue"
            with pytest.raises(BusTimeoutError, match=named):
                producer.send("t", b"y").get(timeout=0.3)
            stored = 2
            with pytest.raises(BackpressureError, match=rf"t-0 is full: {named}"):
                for _ in range(200):
                    producer.send("t", CHUNK)
                    stored += 1
            assert status(bus_dir)["hot_bytes"] <= 3 * 4 * MIB  # memory is bounded by the rings
            assert producer.send("u", b"z").get(timeout=10).offset == 0
            assert producer.send("q", b"z").get(timeout=10).offset == 0
        assert producer.send("t", b"last").get(timeout=20).offset == stored
    assert len(read_all(bus_dir, ["t"])["t", 0]) == stored + 1


def test_a_stopped_consumer_of_a_memory_topic_is_named_and_gets_everything(
    broker: bus.Broker, bus_dir: Path, fork: Fork
) -> None:
    make_queue(bus_dir)

    def read(report: Report) -> None:
        with bus.Consumer("q", bootstrap_servers=bus_dir, client_id="snail") as consumer:
            consumer.poll(timeout_ms=50)
            report("attached")
            os.kill(os.getpid(), signal.SIGSTOP)
            while True:
                for records in consumer.poll(timeout_ms=1000).values():
                    report(len(records))

    snail = fork(read)
    assert snail.next() == "attached"
    wait_stopped(snail.pid)
    with bus.Producer(bus_dir, max_block_ms=300) as producer:
        sent = 0
        with pytest.raises(
            BackpressureError, match=rf"consumer pid {snail.pid} \(snail\) \(state T \(stopped\)"
        ):
            for _ in range(200):
                producer.send("q", CHUNK)
                sent += 1
    snail.send(signal.SIGCONT)
    read_count = 0
    while read_count < sent:
        read_count += snail.next()
    assert read_count == sent


def replicas(path: Path) -> list[int]:
    """Every process that says it is a replica of this bus."""
    return [one.pid for one in bus_processes(path) if one.name() == "bus-replica"]


def test_a_stopped_replica_is_taken_over_as_it_is_and_never_has_another_one_beside_it(
    bus_dir: Path,
) -> None:
    first = bus.Broker(bus_dir).start()
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        pid = replica_pid(bus_dir)
        with stopped(pid):
            kill(first)
            with bus.Broker(bus_dir):
                future = producer.send("t", b"y")
                eventually(lambda: status(bus_dir)["counters"]["replicas_adopted"] == 1)
                assert replicas(bus_dir) == [pid]
                os.kill(pid, signal.SIGCONT)
                assert future.get(timeout=10).offset == 1
                assert replicas(bus_dir) == [pid]


def test_a_stopped_replica_of_a_hot_log_that_is_gone_is_ended_before_anybody_writes(
    bus_dir: Path,
) -> None:
    """The next broker waits for it: neither ten seconds for the stopped one, nor not at all."""
    first = bus.Broker(bus_dir).start()
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
    pid = replica_pid(bus_dir)
    with BusDirectory.open(bus_dir) as directory:
        runtime = directory.read_runtime()
    assert runtime is not None
    os.kill(pid, signal.SIGSTOP)
    kill(first)
    (Path(runtime.hot_dir) / "bus.ctl").unlink()  # as after a stop that was cut short
    started = time.monotonic()
    with bus.Broker(bus_dir):
        assert time.monotonic() - started < 8
        assert not is_alive(pid)
        assert [one.value for one in read_all(bus_dir, ["t"])["t", 0]] == [b"x"]
        with bus.Producer(bus_dir) as producer:
            assert producer.send("t", b"y").get(timeout=10).offset >= 1
