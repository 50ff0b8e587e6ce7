"""kill -9 of the broker, of replicas, of everything: the bus goes on, and nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.liveness import ROLE_REPLICA, client_rows
from tests.broker.rig import (
    create_topic,
    is_alive,
    kill,
    kill_broker,
    replica,
    status,
)
from tests.waiting import eventually


@pytest.fixture
def producer(bus_dir: Path, broker: Broker) -> Iterator[bus.Producer]:
    """A producer that uses the broker of the test and starts none."""
    create_topic(bus_dir)
    with bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"first").get(timeout=10)
        yield producer


def test_acks_all_goes_on_while_the_broker_is_dead(
    bus_dir: Path, broker: Broker, producer: bus.Producer
) -> None:
    kill_broker(broker)
    for offset in range(1, 100):
        assert producer.send("t", b"x").get(timeout=10).offset == offset


def test_a_new_broker_adopts_the_replica_and_the_log(
    bus_dir: Path, broker: Broker, producer: bus.Producer
) -> None:
    before = replica(bus_dir)
    kill_broker(broker)
    with Broker(bus_dir) as second:
        after = replica(bus_dir)
        assert after["pid"] == before["pid"]
        assert second.epoch == 2
        counters = status(bus_dir)["counters"]
        assert counters["partitions_adopted"] == 1
        assert counters["replicas_adopted"] == 1
        assert producer.send("t", b"x").get(timeout=10).offset == 1
    broker.stop()


def test_an_adopted_replica_that_dies_is_replaced(
    bus_dir: Path, broker: Broker, producer: bus.Producer
) -> None:
    kill_broker(broker)
    with Broker(bus_dir):
        pid = replica(bus_dir)["pid"]
        kill(pid)
        eventually(lambda: replica(bus_dir)["pid"] != pid, what="another replica")
        assert producer.send("t", b"x").get(timeout=10).offset == 1


def test_a_killed_replica_is_restarted_at_once_and_goes_on_where_it_was(
    bus_dir: Path, broker: Broker, producer: bus.Producer
) -> None:
    for round_ in range(5):
        pid = replica(bus_dir)["pid"]
        futures = [producer.send("t", b"x" * 1000) for _ in range(200)]
        kill(pid)
        assert futures[-1].get(timeout=10).offset == (round_ + 1) * 200
    assert replica(bus_dir)["restarts"] == 5
    assert replica(bus_dir)["high_watermark"] == 1001


def test_a_stopped_replica_holds_back_durability_and_nothing_else(
    bus_dir: Path, broker: Broker, producer: bus.Producer
) -> None:
    pid = replica(bus_dir)["pid"]
    os.kill(pid, signal.SIGSTOP)
    future = producer.send("t", b"x")
    assert replica(bus_dir)["log_end_offset"] == 2
    assert not future.is_done
    os.kill(pid, signal.SIGCONT)
    assert future.get(timeout=10).offset == 1


def test_after_kill_of_everything_all_committed_records_are_there(bus_dir: Path) -> None:
    program = (
        "import bus, os;"
        f"p = bus.Producer({str(bus_dir)!r}, acks=1, autostart=False);"
        "f = [p.send('t', b'%d' % i) for i in range(3000)][-1];"
        "assert f.get(timeout=5).offset == 2999;"
        "os.kill(os.getpid(), 9)"
    )
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    row = replica(bus_dir)
    os.kill(row["pid"], signal.SIGSTOP)  # so that the records are in the hot log only
    subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    kill_broker(broker)
    kill(row["pid"])
    with Broker(bus_dir):
        eventually(lambda: replica(bus_dir)["high_watermark"] == 3000, what="all records durable")
        assert status(bus_dir)["counters"]["clients_reaped"] >= 1
        assert status(bus_dir)["clients"] == []
    broker.stop()


def test_a_dead_client_is_reaped_at_once(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    program = (
        f"import bus, sys; p = bus.Producer({str(bus_dir)!r}, client_id='victim', autostart=False);"
        "p.send('t', b'x').get(timeout=5); print('ready', flush=True); sys.stdin.read()"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert victim.stdout is not None and victim.stdin is not None
    victim.stdout.readline()
    assert [row["client_id"] for row in status(bus_dir)["clients"]] == ["victim"]
    victim.kill()
    victim.wait()
    eventually(lambda: not status(bus_dir)["clients"], what="no client")
    assert status(bus_dir)["counters"]["clients_reaped"] == 1
    victim.stdin.close()
    victim.stdout.close()


def test_a_replica_without_broker_and_clients_ends_by_itself(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir, partitions=2)
    pids = [replica(bus_dir, partition)["pid"] for partition in range(2)]
    kill_broker(broker)
    eventually(lambda: not any(map(is_alive, pids)), what="the end of both replicas")
    broker.stop()


def test_slots_of_killed_replicas_are_freed(
    bus_dir: Path, broker: Broker, producer: bus.Producer
) -> None:
    for _ in range(3):
        pid = replica(bus_dir)["pid"]
        kill(pid)
        eventually(lambda pid=pid: replica(bus_dir)["pid"] != pid, what="another replica")
    control = producer._client.control

    def replica_slots() -> int:
        return sum(row.role == ROLE_REPLICA for row in client_rows(control))

    eventually(lambda: replica_slots() == 1, what="one slot for one replica")


def test_one_process_may_serve_several_partitions(bus_dir: Path) -> None:
    config = bus.BrokerConfig(partitions_per_replica=3)
    with Broker(bus_dir, config=config):
        create_topic(bus_dir, partitions=6)
        pids = {replica(bus_dir, partition)["pid"] for partition in range(6)}
        assert len(pids) == 2
        with bus.Producer(bus_dir, autostart=False) as producer:
            for partition in range(6):
                producer.send("t", b"x", partition=partition).get(timeout=10)
            kill(pids.pop())
            for partition in range(6):
                future = producer.send("t", b"x", partition=partition)
                assert future.get(timeout=10).offset == 1
