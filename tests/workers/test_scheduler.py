"""Scheduled tasks reach their topics once, not before they are due, whatever dies meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import bus
from bus import Broker
from tests.children import Fork, Report
from tests.waiting import eventually, never
from tests.workers.pool_rig import Shop
from workers import Schedule, Scheduler, schedule
from workers.lanes import LANES, TOPIC, Now
from workers.mover import GROUP

pytestmark = pytest.mark.timeout(120)


class Inbox:
    """What has come to a topic so far."""

    def __init__(self, directory: Path, topic: str = "out") -> None:
        self.records: list[bus.ConsumerRecord] = []
        self.came_ns: list[int] = []
        self._consumer = bus.Consumer(
            topic, bootstrap_servers=directory, auto_offset_reset="earliest"
        )

    def look(self, timeout_ms: float = 0) -> int:
        """Takes what is there; how many there are."""
        for records in self._consumer.poll(timeout_ms).values():
            self.records += records
            self.came_ns += [time.time_ns()] * len(records)
        return len(self.records)

    def until(self, count: int, deadline_s: float = 50.0) -> None:
        """Waits for so many, and that there are no more."""
        eventually(lambda: self.look(5) >= count, deadline_s, f"{count} scheduled tasks came")
        never(lambda: self.look() > count, 0.1, "one came twice")

    @property
    def values(self) -> list[int]:
        return sorted(int(record.value) for record in self.records)

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def inbox(bus_dir: Path, broker: Broker) -> Iterator[Inbox]:
    opened = Inbox(bus_dir)
    yield opened
    opened.close()


def waiting(directory: Path) -> int:
    """Records of all lanes that were not moved yet."""
    with bus.Admin(directory) as admin:
        known = any(one["group_id"] == GROUP for one in admin.list_groups())
        committed = admin.list_group_offsets(GROUP)[GROUP] if known else {}
        [topic] = admin.describe_topics([TOPIC])
    offsets = {place: found.offset for place, found in committed.items()}
    return sum(
        one["log_end_offset"] - offsets.get(bus.TopicPartition(TOPIC, one["partition_index"]), 0)
        for one in topic["partitions"]
    )


def deleted(directory: Path) -> int:
    """Records of all lanes that are deleted."""
    with bus.Admin(directory) as admin:
        [topic] = admin.describe_topics([TOPIC])
    return sum(int(one["log_start_offset"]) for one in topic["partitions"])


def add(directory: Path, count: int, delay_s: Callable[[int], float], first: int = 0) -> None:
    """So many tasks for "out"."""
    with Schedule(directory) as opened:
        for number in range(first, first + count):
            opened.add("out", b"%d" % number, delay_s=delay_s(number))


# ---------------------------------------------------------------------------------- time


def test_tasks_come_when_they_are_due_and_not_before_with_all_that_they_had(
    bus_dir: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.scheduler.DELETE_S", 0.05)
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("two", num_partitions=2)])
    two = Inbox(bus_dir, "two")
    # what is due already needs no scheduler
    schedule("two", b"0", delay_s=0, bootstrap_servers=bus_dir)
    schedule("two", b"1", at=datetime(2001, 1, 1, tzinfo=UTC), bootstrap_servers=bus_dir)
    two.until(2)
    with Scheduler(bus_dir):
        due_ns = []
        with Schedule(bus_dir) as opened:
            for number in range(60):
                due_ns.append(time.time_ns() + number * 10_000_000)
                opened.add("out", b"%d" % number, delay_s=number / 100)
        at = datetime.now(UTC) + timedelta(seconds=0.3)
        headers = [("colour", b"red")]
        schedule(
            "two", b"7", at=at, key=b"k", headers=headers, partition=1, bootstrap_servers=bus_dir
        )
        inbox.until(60)
        two.until(3)
        eventually(lambda: deleted(bus_dir) >= 60, what="what was moved is deleted")
    two.close()
    assert inbox.values == list(range(60))
    for record, came_ns in zip(inbox.records, inbox.came_ns, strict=True):
        assert came_ns >= due_ns[int(record.value)]
    record = two.records[-1]
    assert (record.value, record.key, record.partition) == (b"7", b"k", 1)
    assert record.timestamp >= int(at.timestamp() * 1000)
    assert [name for name, _ in record.headers] == ["colour", "schedule.from"]


class Clock:
    """A wall clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_ns = 0
        read = Now.read

        def shown() -> Now:
            now = read()
            return Now(now.wall_ns + self.ahead_ns, now.boot_ns, now.boot)

        monkeypatch.setattr(Now, "read", shown)


def test_a_clock_that_is_set_ahead_brings_moments_and_not_delays(
    bus_dir: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with Schedule(bus_dir) as opened:
        opened.add("out", b"1", at=datetime.now(UTC) + timedelta(hours=20))
        opened.add("out", b"2", delay_s=3600)
        opened.add("out", b"3", at=datetime.now(UTC) + timedelta(days=20))
    with Scheduler(bus_dir):
        never(lambda: inbox.look() > 0, 0.3, "nothing is due")
        clock.ahead_ns = 20 * 3600 * 1_000_000_000
        inbox.until(1)
        assert inbox.values == [1]
        clock.ahead_ns = 0  # and back again
        never(lambda: inbox.look() > 1, 0.7, "nothing else is due")
    # it is set while no scheduler runs
    clock.ahead_ns = 20 * 24 * 3600 * 1_000_000_000
    with Scheduler(bus_dir):
        inbox.until(2)
        assert inbox.values == [1, 3]
    assert waiting(bus_dir) == 1


def test_what_waits_costs_no_memory(bus_dir: Path, broker: Broker, fork: Fork) -> None:
    def move(report: Report) -> None:
        scheduler, process, first = Scheduler(bus_dir), psutil.Process(), 0
        scheduler.start()
        while True:
            assert waiting(bus_dir) == 2000
            memory = process.memory_info()
            first = first or memory.rss - memory.shared
            report(memory.rss - memory.shared - first)

    with Schedule(bus_dir) as opened:
        for _ in range(2000):
            opened.add("out", bytes(4000), delay_s=7 * 86_400)
    child = fork(move)
    assert [child.next() for _ in range(20)][-1] < 3 << 20, "of 8 MB that wait"


# ---------------------------------------------------------------------------------- trouble


def test_a_task_that_no_topic_takes_becomes_a_dead_letter_and_holds_up_no_other(
    bus_dir: Path, inbox: Inbox
) -> None:
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("small", topic_configs={"max.message.bytes": 1000})])
    with Schedule(bus_dir) as opened:
        opened.add("small", bytes(5000), delay_s=0.05)
        opened.add("out", b"1", delay_s=0.06)
    with bus.Producer(bus_dir) as producer:
        producer.send(TOPIC, b"no plan", partition=0).get(20.0)
    with Scheduler(bus_dir):
        inbox.until(1)
        letters = Shop(bus_dir, TOPIC, bus_dir)
        eventually(lambda: _there(letters) and len(letters.dead_letters()) == 2, what="letters")
    reasons = sorted(dead.headers["dlq.reason"] for dead in letters.dead_letters())
    assert "no header schedule.plan" in reasons[0]
    assert "max.message.bytes" in reasons[1]
    assert waiting(bus_dir) == 0


def _there(shop: Shop) -> bool:
    with bus.Admin(shop.directory) as admin:
        return shop.dead_letter_topic in admin.list_topics()


def test_a_topic_that_is_full_holds_up_no_other(bus_dir: Path, inbox: Inbox) -> None:
    configs = {"max.lag.records": 1, "max.lag.groups": "slow"}
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("full", topic_configs=configs)])
    options: dict[str, Any] = {"group_id": "slow", "auto_offset_reset": "earliest"}
    with bus.Consumer("full", bootstrap_servers=bus_dir, **options) as slow:
        slow.poll(100)
        with Schedule(bus_dir) as opened:
            for number in range(3):
                opened.add("full", b"%d" % number, delay_s=0.02)
            opened.add("out", b"1", delay_s=0.05)
        with Scheduler(bus_dir):
            inbox.until(1)
            came: list[bytes] = []

            def all_came() -> bool:
                for records in slow.poll(10).values():
                    came.extend(record.value for record in records)
                slow.commit()
                return len(came) >= 3

            eventually(all_came, 50.0, "what waited for room came")
    assert sorted(came) == [b"0", b"1", b"2"]


# ---------------------------------------------------------------------------------- deaths


def _dies_at(method: str, owner: type, count: int) -> None:
    """This process is killed in the count-th call of a method, before it does anything."""
    original, calls = getattr(owner, method), iter(range(1, 1_000_000))

    def counted(*args: Any, **keywords: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **keywords)

    setattr(owner, method, counted)


#: In which call of which method a scheduler dies that moves eight tasks.
DEATHS: list[tuple[type, str, int]] = [
    (bus.Consumer, "commit", 1),  # before the note
    (bus.Producer, "send", 1),  # after the note
    (bus.Producer, "send", 5),  # amid the sends
    (bus.Consumer, "commit", 2),  # before the commit
]


def test_a_scheduler_that_dies_has_moved_each_task_once_or_not_at_all(
    bus_dir: Path, inbox: Inbox, fork: Fork
) -> None:
    def dies(owner: type, method: str, count: int) -> Callable[[Report], None]:
        def move(report: Report) -> None:
            _dies_at(method, owner, count)
            Scheduler(bus_dir).run()

        return move

    for round, death in enumerate(DEATHS):
        add(bus_dir, 8, lambda number: 0.001, first=8 * round)  # all in lane 0, for one batch
        assert fork(dies(*death)).wait() == -signal.SIGKILL
        # the one that takes over dies as well, when it has sent what was left
        assert fork(dies(bus.Consumer, "commit", 2)).wait() == -signal.SIGKILL
        with Scheduler(bus_dir):
            eventually(lambda: waiting(bus_dir) == 0, 50.0, "all are moved")
        inbox.until(8 * round + 8)
        assert inbox.values == list(range(8 * round + 8))


def test_a_storm_of_kills_loses_no_task_and_brings_none_twice(
    bus_dir: Path, inbox: Inbox, fork: Fork
) -> None:
    def move(report: Report) -> None:
        Scheduler(bus_dir).run()

    def lanes() -> list[int]:
        if not any(one["group_id"] == GROUP for one in admin.list_groups()):
            return []
        members = admin.describe_groups([GROUP])[GROUP]["members"]
        return sorted(len(one["partitions"]) for one in members)

    count = 200
    with Scheduler(bus_dir), bus.Admin(bus_dir) as admin:
        team = [fork(move)]
        eventually(lambda: lanes() == [LANES // 2] * 2, what="each has half of the lanes")
    team.append(fork(move))
    add(bus_dir, count, lambda number: 0.02 + number * 0.006)
    for came in range(25, count, 25):  # or none of them would live to move anything
        eventually(partial(_has_come, inbox, came), 50.0, f"{came} tasks came")
        team.pop(0).kill()
        team.append(fork(move))
    inbox.until(count)
    assert inbox.values == list(range(count))


def _has_come(inbox: Inbox, count: int) -> bool:
    return inbox.look(5) >= count


def test_tasks_outlive_a_kill_of_everything(bus_dir: Path, fork: Fork) -> None:
    broker = Broker(bus_dir)
    broker.start()

    def move(report: Report) -> None:
        Scheduler(bus_dir).run()

    mover = fork(move)
    add(bus_dir, 100, lambda number: 0.5 + number * 0.001)
    os.kill(broker.pid, signal.SIGKILL)
    mover.kill()
    broker.stop()
    with Broker(bus_dir):
        inbox = Inbox(bus_dir)
        command = [sys.executable, "-m", "workers", "scheduler", "--dir", str(bus_dir)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as again:
            inbox.until(100)
            again.send_signal(signal.SIGTERM)
        assert again.returncode == 0
        assert inbox.values == list(range(100))
        inbox.close()
