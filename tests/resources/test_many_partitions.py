"""A thousand partitions: they share processes, slots and descriptors, and everything still works.

The default run has enough of them that replicas must share; `tox -e resources` has 1,000.
"""

import os
import signal
import time
from pathlib import Path

import pytest

import bus
from bus.crew import PROCESSES_MAX
from tests.broker.rig import is_alive, kill, status
from tests.buses import bus_processes
from tests.faults.witness import read_all
from tests.resources.figures import descriptors, note, own_mib
from tests.waiting import eventually

WHOLE = os.environ.get("BUS_RESOURCE_SAMPLES") == "0"
PARTITIONS = 1000 if WHOLE else PROCESSES_MAX + 4
TOPICS = 1000 if WHOLE else 4
#: nothing of this may take longer, whatever the disk is like, in seconds
LONG_S = 600.0 if WHOLE else 60.0


def replicas(path: Path) -> list[int]:
    """The replica processes of a bus."""
    return [one.pid for one in bus_processes(path) if one.name() == "bus-replica"]


def kill_everything(broker: bus.Broker, path: Path) -> None:
    for pid in [broker.pid, *replicas(path)]:
        os.kill(pid, signal.SIGKILL)
    broker.stop()
    eventually(lambda: not bus_processes(path), what="the end of all processes")


def send_to_all(path: Path, names: list[str], partitions: int, value: bytes) -> None:
    """A durable record in every partition."""
    with bus.Producer(path, autostart=False) as producer:
        for name in names:
            for partition in range(partitions):
                producer.send(name, value, partition=partition)
        producer.flush(LONG_S)


class Lap:
    """Seconds since the lap before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def seconds(self) -> str:
        now = time.monotonic()
        lap, self._last = now - self._last, now
        return f"{lap:.1f} s"


def note_processes(broker: bus.Broker, path: Path, what: str) -> None:
    pids = replicas(path)
    assert len(pids) <= PROCESSES_MAX
    assert descriptors(broker.pid) < 2 * PROCESSES_MAX, "descriptors do not grow with partitions"
    note(f"{what}: replica processes", str(len(pids)))
    note(f"{what}: memory of the broker", f"{own_mib(broker.pid):.0f} MiB")
    private = sum(map(own_mib, pids))
    note(f"{what}: of all replicas, with their hot segments", f"{private:.0f} MiB")
    note(f"{what}: descriptors of the broker", str(descriptors(broker.pid)))


@pytest.mark.timeout(3 * LONG_S)
def test_a_topic_of_very_many_partitions_is_made_used_killed_recovered_and_deleted(
    bus_dir: Path,
) -> None:
    what = f"one topic of {PARTITIONS} partitions"
    with bus.Broker(bus_dir) as broker:
        lap = Lap()
        with bus.Admin(bus_dir, request_timeout_ms=LONG_S * 1000) as admin:
            admin.create_topics([bus.NewTopic("t", PARTITIONS)])
        note(f"{what}: made in", lap.seconds())
        send_to_all(bus_dir, ["t"], PARTITIONS, b"first")
        note(f"{what}: a durable record in each in", lap.seconds())
        note_processes(broker, bus_dir, what)
        assert len(status(bus_dir)["replicas"]) == PARTITIONS
        lap.seconds()
        kill_everything(broker, bus_dir)
    lap.seconds()
    with bus.Broker(bus_dir) as broker:
        note(f"{what}: taken over after kill -9 of all in", lap.seconds())
        send_to_all(bus_dir, ["t"], PARTITIONS, b"second")
        lap.seconds()
    note(f"{what}: stopped in", lap.seconds())
    with bus.Broker(bus_dir) as broker:
        note(f"{what}: opened from disk in", lap.seconds())
        log = read_all(bus_dir, ["t"])
        note(f"{what}: read in", lap.seconds())
        assert {key[1] for key in log} == set(range(PARTITIONS))
        for records in log.values():
            assert [one.value for one in records] == [b"first", b"second"]
        with bus.Admin(bus_dir, request_timeout_ms=LONG_S * 1000) as admin:
            admin.delete_topics(["t"])
        note(f"{what}: deleted in", lap.seconds())
        eventually(lambda: not replicas(bus_dir), what="the end of all replicas")


@pytest.mark.timeout(3 * LONG_S)
def test_very_many_topics_that_come_one_by_one_share_processes_and_go_without_each_other(
    bus_dir: Path,
) -> None:
    names = [f"t{number:04}" for number in range(TOPICS)]
    what = f"{TOPICS} topics that come one by one"
    with bus.Broker(bus_dir) as broker:
        send_to_all(bus_dir, ["base"], 1, b"x")
        with bus.Admin(bus_dir, request_timeout_ms=LONG_S * 1000) as admin:
            admin.create_partitions({"base": PROCESSES_MAX})
            lap = Lap()
            for name in names:
                admin.create_topics([bus.NewTopic(name)])
            note(f"{what}: made in", lap.seconds())
            send_to_all(bus_dir, names, 1, b"x")
            note(f"{what}: a durable record in each in", lap.seconds())
            note_processes(broker, bus_dir, what)
            assert status(bus_dir)["counters"]["replica_restarted"] == 0, "they were asked to end"
            lap.seconds()
            admin.delete_topics(names[::2])
            note(f"{what}: every other one deleted in", lap.seconds())
        send_to_all(bus_dir, names[1::2], 1, b"y")
        send_to_all(bus_dir, ["base"], PROCESSES_MAX, b"y")
        assert status(bus_dir)["counters"]["replica_restarted"] == 0


def test_a_replica_that_serves_many_is_killed_and_they_all_go_on(bus_dir: Path) -> None:
    with bus.Broker(bus_dir, config=bus.BrokerConfig(partitions_per_replica=20)):
        with bus.Admin(bus_dir) as admin:
            admin.create_topics([bus.NewTopic("t", 20)])
        for round_ in (b"0", b"1", b"2"):
            send_to_all(bus_dir, ["t"], 20, round_)
            (pid,) = replicas(bus_dir)
            kill(pid)
            eventually(lambda pid=pid: replicas(bus_dir) not in ([], [pid]))
        send_to_all(bus_dir, ["t"], 20, b"3")
        log = read_all(bus_dir, ["t"])
        assert all(len(log["t", partition]) == 4 for partition in range(20))
        assert status(bus_dir)["counters"]["replica_restarted"] == 3


def test_a_replica_that_serves_many_ends_when_nobody_uses_the_bus(bus_dir: Path) -> None:
    with bus.Broker(bus_dir, config=bus.BrokerConfig(partitions_per_replica=20)) as broker:
        with bus.Admin(bus_dir) as admin:
            admin.create_topics([bus.NewTopic("t", 20)])
        send_to_all(bus_dir, ["t"], 20, b"x")
        (pid,) = replicas(bus_dir)
        kill(broker.pid)
        eventually(lambda: not is_alive(pid), what="the end of a replica that nobody needs")
        broker.stop()


def test_a_replica_that_serves_many_writes_what_comes_last_before_it_ends(bus_dir: Path) -> None:
    with bus.Broker(bus_dir, config=bus.BrokerConfig(partitions_per_replica=20)):
        with bus.Admin(bus_dir) as admin:
            admin.create_topics([bus.NewTopic("t", 20)])
        with bus.Producer(bus_dir, acks=1) as producer:
            for number in range(2000):
                producer.send("t", b"%d" % number, partition=number % 20)
    with bus.Broker(bus_dir):
        log = read_all(bus_dir, ["t"])
        assert sum(map(len, log.values())) == 2000
