"""Random bytes over the tables of a group: nobody reads or commits for another one, none is lost.

The members table lies in the hot directory and is mapped by every member; committed offsets do not:
they are written with pwrite, and no stray store reaches them.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bus
from bus.check import check_directory
from bus.directory import BusDirectory
from bus.errors import BusError
from bus.native.core import LAYOUT
from tests.children import Fork, Report
from tests.security.scribbler import scribble
from tests.waiting import eventually

PARTITIONS = 4
RECORDS = 60
#: far beyond what the broker takes to notice on a machine that is busy with other things
DEADLINE_S = 60.0
T = [bus.TopicPartition("t", number) for number in range(PARTITIONS)]


def member(path: Path) -> bus.Consumer:
    return bus.Consumer(
        "t",
        bootstrap_servers=path,
        group_id="g",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


def read_and_commit(path: Path) -> Callable[[Report], None]:
    """An honest member: reports what it was given, and what it owns; it never gives up."""

    def live(report: Report) -> None:
        with member(path) as consumer:
            owned = None
            while os.getppid() != 1:
                try:
                    for records in consumer.poll(timeout_ms=50).values():
                        report([one.value.decode() for one in records])
                    if consumer.assignment() != owned:
                        owned = consumer.assignment()
                        report({"owned": [one.partition for one in owned]})
                    consumer.commit()
                except BusError:  # a broker that is slow to move the bus: tried again
                    time.sleep(0.01)

    return live


def join_and_scribble(path: Path, seed: int) -> Callable[[Report], None]:
    """A member that owns something, and then spoils all it has mapped, again and again."""

    def live(report: Report) -> None:
        consumer = member(path)
        eventually(lambda: consumer.poll(timeout_ms=50) or consumer.assignment(), 20.0)
        report("joined")
        with BusDirectory.open(path) as directory:
            hot = str(directory.default_hot_path())
        for turn in range(1000):
            scribble(hot, seed + turn)

    return live


class Group:
    """Two honest members, and what they were given."""

    def __init__(self, path: Path, fork: Fork) -> None:
        self._children = [fork(read_and_commit(path)) for _ in range(2)]
        self._seen: set[str] = set()
        self._owned: list[list[int]] = [[], []]

    def has(self, values: set[str]) -> bool:
        """True once each of these values was given to one of them."""
        for number, child in enumerate(self._children):
            while child.has_news():
                news = child.next()
                if isinstance(news, dict):
                    self._owned[number] = news["owned"]
                else:
                    self._seen.update(news)
        return values <= self._seen

    @property
    def owned(self) -> list[int]:
        """The partitions that they take for theirs, each as often as one of them does."""
        return sorted(number for owned in self._owned for number in owned)


def send(producer: bus.Producer, name: str) -> set[str]:
    """Records in all partitions, acknowledged."""
    values = [f"{name} {number}" for number in range(RECORDS)]
    sent = [
        producer.send("t", one.encode(), partition=number % PARTITIONS)
        for number, one in enumerate(values)
    ]
    for one in sent:
        one.get(timeout=DEADLINE_S)
    return set(values)


def committed(admin: bus.Admin) -> dict[bus.TopicPartition, int]:
    return {where: one.offset for where, one in admin.list_group_offsets("g")["g"].items()}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(2))
def test_a_member_that_scribbles_is_killed_and_the_others_read_on_where_they_were(
    bus_dir: Path, broker: bus.Broker, fork: Fork, seed: int
) -> None:
    with bus.Producer(bus_dir) as producer, bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", PARTITIONS)])
        before = send(producer, "before")
        group = Group(bus_dir, fork)
        eventually(lambda: group.has(before), DEADLINE_S, "what was sent before is read")
        eventually(lambda: sum(committed(admin).values()) == RECORDS, DEADLINE_S, "and committed")
        old = committed(admin)
        hostile = fork(join_and_scribble(bus_dir, seed))
        assert hostile.next() == "joined"
        assert hostile.wait(DEADLINE_S) == -signal.SIGKILL
        after = send(producer, "after")
    with bus.Admin(bus_dir) as admin:
        assert all(old[one] <= offset for one, offset in committed(admin).items())
        eventually(lambda: group.has(after), DEADLINE_S, "what was sent after is read")
        eventually(
            lambda: group.has(after) and group.owned == list(range(PARTITIONS)),
            DEADLINE_S,
            "each partition has one owner",
        )
        ends = {one: partition_end(bus_dir, one) for one in T}
        eventually(lambda: committed(admin) == ends, DEADLINE_S, "it is committed, up to the end")


def partition_end(path: Path, partition: bus.TopicPartition) -> int:
    with bus.Consumer(bootstrap_servers=path) as consumer:
        return consumer.end_offsets([partition])[partition]


def spoil_members(path: Path, begin: int, end: int = LAYOUT["sizeof.bus_members"]) -> None:
    """Random bytes over a part of the table of the group's members."""
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
    assert runtime is not None
    [table] = Path(runtime.hot_dir).glob("group-*.ctl")
    with table.open("r+b") as file:
        file.seek(begin)
        file.write(os.urandom(end - begin))


def take(consumer: bus.Consumer, seen: set[str]) -> set[str]:
    for records in consumer.poll(timeout_ms=50).values():
        seen.update(record.value.decode() for record in records)
    return seen


@pytest.mark.parametrize("begin", ["magic", "members", "owners"])
def test_a_members_table_that_was_written_over_moves_no_offset_back_and_a_restart_makes_it_anew(
    bus_dir: Path, begin: str
) -> None:
    """It is not in the canary's way: nobody is found out, but nobody is believed either."""
    seen: set[str] = set()
    refused: list[str] = []
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer, bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", PARTITIONS)])
        sent = send(producer, "before")
        consumer = member(bus_dir)
        eventually(lambda: sent <= take(consumer, seen), DEADLINE_S, "what was sent before is read")
        consumer.commit()
        old = committed(admin)
        spoil_members(bus_dir, LAYOUT[f"bus_members.{begin}"])
        sent |= send(producer, "after")
        for deed in (lambda: take(consumer, seen), consumer.commit, consumer.close):
            try:
                deed()
            except BusError as error:
                refused.append(str(error))
        print(refused)
        assert all(old[one] <= at <= 2 * old[one] for one, at in committed(admin).items())
    assert refused, "a member of a table that says nothing is told so"
    with bus.Broker(bus_dir), member(bus_dir) as heir:
        eventually(lambda: sent <= take(heir, seen), DEADLINE_S, "all records are read in the end")


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_the_next_broker_makes_a_members_table_anew_whose_mutex_was_written_over(
    bus_dir: Path, killed: bool
) -> None:
    seen: set[str] = set()
    with (
        bus.Broker(bus_dir) as broker,
        bus.Producer(bus_dir) as producer,
        bus.Admin(bus_dir) as admin,
    ):
        admin.create_topics([bus.NewTopic("t", PARTITIONS)])
        sent = send(producer, "before")
        with member(bus_dir) as consumer:
            eventually(lambda: sent <= take(consumer, seen), DEADLINE_S, "all is read")
            consumer.commit()
        lock = LAYOUT["bus_members.lock"]
        spoil_members(bus_dir, lock, lock + 40)
        if killed:
            os.kill(broker.pid, signal.SIGKILL)
    assert [str(one) for one in check_directory(bus_dir)] == []
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer, member(bus_dir) as heir:
        sent = send(producer, "after")
        eventually(lambda: sent <= take(heir, seen), DEADLINE_S, "new records are read")
        heir.commit()
