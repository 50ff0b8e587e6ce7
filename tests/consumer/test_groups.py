"""Groups of real processes: they share, hand over, die, are stopped and come back."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from bus.errors import CommitFailedError
from bus.group_admin import remove_client
from bus.liveness import client_rows
from bus.members import MemberTable
from bus.structs import OffsetAndMetadata, TopicPartition
from tests.broker.rig import ask, create_topic, kill_broker
from tests.children import Child, Fork, Report
from tests.waiting import eventually

PARTITIONS = 4
#: the target is 0.1 s on a free machine; two cores are shared with other tests
TAKE_OVER_S = 1.0


def tp(number: int) -> TopicPartition:
    return TopicPartition("t", number)


@pytest.fixture
def topic(bus_dir: Path, broker: Broker) -> Path:
    create_topic(bus_dir, partitions=PARTITIONS)
    return bus_dir


def member(path: Path, **options: Any) -> bus.Consumer:
    options = {"group_id": "g", "auto_offset_reset": "earliest"} | options
    return bus.Consumer("t", bootstrap_servers=path, **options)


def worker(path: Path, **options: Any) -> Callable[[Report], None]:
    """A process that reports [key, value, time] of every record, until it is told to end."""

    def work(report: Report) -> None:
        ending: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
        with member(path, **options) as consumer:
            report("ready")
            while not ending:
                for records in consumer.poll(200).values():
                    for r in records:
                        report([r.partition, r.offset, int(r.value), time.monotonic()])

    return work


def start(fork: Fork, path: Path, count: int, **options: Any) -> list[Child]:
    children = [fork(worker(path, **options)) for _ in range(count)]
    for child in children:
        assert child.next() == "ready"
    return children


def finish(children: list[Child]) -> list[list[Any]]:
    """Ends them, and everything that they reported."""
    for child in children:
        child.send(signal.SIGTERM)
    return [line for child in children for line in child.rest()]


def all_committed(path: Path, ends: dict[TopicPartition, int]) -> Callable[[], bool]:
    observer = bus.Consumer(bootstrap_servers=path, group_id="g")
    return lambda: all((observer.committed(part) or 0) >= end for part, end in ends.items())


def ends_of(path: Path) -> dict[TopicPartition, int]:
    with bus.Consumer(bootstrap_servers=path) as consumer:
        return consumer.end_offsets([tp(number) for number in range(PARTITIONS)])


# ------------------------------------------------------------------------- one after the other


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "sticky"])
def test_members_share_the_partitions_and_give_them_back(topic: Path, strategy: Any) -> None:
    with member(topic, partition_assignment_strategy=strategy) as first:
        assert len(first.assignment()) == PARTITIONS
        with member(topic, partition_assignment_strategy=strategy) as second:
            settle(first, second)
            assert len(first.assignment()) == len(second.assignment()) == 2
            assert not first.assignment() & second.assignment()
        eventually(lambda: first.poll(10) or len(first.assignment()) == PARTITIONS)


def settle(*members: bus.Consumer) -> None:
    """Polls until every partition has an owner."""

    def shared() -> bool:
        for one in members:
            one.poll(0)
        return sum(len(one.assignment()) for one in members) == PARTITIONS

    eventually(shared, what="a settled group")


class Listener(bus.ConsumerRebalanceListener):
    def __init__(self) -> None:
        self.calls: list[tuple[str, set[TopicPartition]]] = []

    def on_partitions_revoked(self, revoked: Any) -> None:
        self.calls.append(("revoked", set(revoked)))

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.calls.append(("assigned", set(assigned)))


def test_a_listener_hears_of_every_partition_that_comes_and_goes(topic: Path) -> None:
    listener = Listener()
    with bus.Consumer(bootstrap_servers=topic, group_id="g") as first:
        first.subscribe(["t"], listener=listener)
        assert not listener.calls, "calls come from poll"
        first.poll(0)
        everything = {tp(number) for number in range(PARTITIONS)}
        assert listener.calls == [("assigned", everything)]
        with member(topic) as second:
            settle(first, second)
            ((kind, gone),) = listener.calls[1:]
            assert (kind, gone) == ("revoked", second.assignment())
        eventually(lambda: first.poll(10) or first.assignment() == everything)
        assert listener.calls[2:] == [("assigned", gone)]


def test_a_listener_may_seek_and_commit(topic: Path) -> None:
    class Mine(bus.ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned: Any) -> None:
            for part in assigned:
                first.seek(part, 5)

        def on_partitions_revoked(self, revoked: Any) -> None:
            first.commit({part: OffsetAndMetadata(6) for part in revoked})

    with bus.Producer(topic) as producer:
        for number in range(PARTITIONS):
            producer.send_many("t", [b"%d" % n for n in range(7)], partition=number)
    with bus.Consumer(
        bootstrap_servers=topic, group_id="g", auto_offset_reset="none", enable_auto_commit=False
    ) as first:
        first.subscribe(["t"], listener=Mine())
        found = first.poll(1000)
        assert sorted(r.value for rs in found.values() for r in rs) == [b"5"] * 4 + [b"6"] * 4
        with member(topic, auto_offset_reset="latest") as second:
            settle(first, second)
            for part in second.assignment():
                assert second.committed(part) == 6


def test_an_error_in_a_listener_comes_out_of_poll_and_the_hand_over_goes_on(topic: Path) -> None:
    class Wrong(bus.ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked: Any) -> None:
            raise ValueError("mine")

    with bus.Consumer(bootstrap_servers=topic, group_id="g") as first:
        listener = Wrong()
        first.subscribe(["t"], listener=listener)
        first.poll(0)
        with member(topic) as second:
            with pytest.raises(ValueError, match="mine"):
                eventually(lambda: first.poll(10) and None)
            listener.on_partitions_revoked = lambda revoked: None  # type: ignore[method-assign]
            settle(first, second)


def test_a_member_that_is_handed_a_partition_goes_on_where_the_other_stopped(topic: Path) -> None:
    with bus.Producer(topic) as producer, member(topic) as first:
        for number in range(PARTITIONS):
            producer.send_many("t", [b"%d" % n for n in range(10)], partition=number)
        seen = [(r.partition, r.offset) for rs in first.poll(0).values() for r in rs]
        for number in range(PARTITIONS):
            producer.send_many("t", [b"%d" % n for n in range(10, 20)], partition=number)
        with member(topic) as second:
            while len(seen) < 20 * PARTITIONS:
                for one in (first, second):
                    found = one.poll(10)
                    seen += [(r.partition, r.offset) for rs in found.values() for r in rs]
        assert len(set(seen)) == len(seen), "nothing twice"


def test_two_groups_and_a_lone_reader_each_get_everything(topic: Path) -> None:
    with (
        member(topic, group_id="a") as a,
        member(topic, group_id="b") as b,
        member(topic, group_id=None) as alone,
        bus.Producer(topic) as producer,
    ):
        producer.send_many("t", [b"x"] * 50)
        for consumer in (a, b, alone):
            assert sum(len(found) for found in consumer.poll(1000).values()) == 50


# ------------------------------------------------------------------------------------ processes


def test_each_record_comes_once_when_nobody_dies(topic: Path, fork: Fork) -> None:
    total = 6000
    children = start(fork, topic, 2)
    with bus.Producer(topic) as producer:
        for number in range(total // 2):
            producer.send("t", b"%d" % number, partition=number % PARTITIONS)
        children += start(fork, topic, 1)
        leaver = children[0]
        leaver.send(signal.SIGTERM)
        for number in range(total // 2, total):
            producer.send("t", b"%d" % number, partition=number % PARTITIONS)
        producer.flush(20)
    lines = leaver.rest()
    remaining = children[1:]
    for child in remaining:
        while len(lines) < total and (line := quiet(child)):
            lines.append(line)
    lines += finish(remaining)
    assert sorted(line[2] for line in lines) == list(range(total))
    for number in range(PARTITIONS):
        mine = sorted(line[1:3] for line in lines if line[0] == number)
        assert [offset for offset, _ in mine] == list(range(total // PARTITIONS))
    assert all_committed(topic, ends_of(topic))()


def quiet(child: Child) -> Any:
    """What the child says next, or None if it has nothing to say for a while."""
    try:
        return child.next(timeout_s=1.0)
    except AssertionError:
        return None


def test_the_next_record_of_a_killed_member_reaches_another_soon(topic: Path, fork: Fork) -> None:
    children = start(fork, topic, 2)
    by_pid: dict[int, int] = {}
    with bus.Producer(topic) as producer:
        for number in range(PARTITIONS):
            producer.send("t", b"0", partition=number)
        for child in children:
            for _ in range(PARTITIONS // 2):
                by_pid[child.next()[0]] = child.pid
        victim, heir = children
        (orphan, *_) = [number for number, pid in by_pid.items() if pid == victim.pid]
        begun = time.monotonic()
        victim.kill()
        producer.send("t", b"1", partition=orphan)
        while (line := heir.next())[:3] != [orphan, 1, 1]:
            assert line[1] == 0, "only uncommitted records come again"
        assert line[3] - begun < TAKE_OVER_S


def test_the_dead_are_found_without_a_broker(topic: Path, broker: Broker, fork: Fork) -> None:
    (child,) = start(fork, topic, 1)
    with member(topic, autostart=False) as mine:
        eventually(lambda: mine.poll(10) or len(mine.assignment()) == 2)
        kill_broker(broker)
        child.kill()
        eventually(lambda: mine.poll(10) or len(mine.assignment()) == PARTITIONS, 5)


def test_kills_lose_no_record(topic: Path, fork: Fork) -> None:
    total = 4000
    children = start(fork, topic, 3, auto_commit_interval_ms=20)
    lines: list[Any] = []
    with bus.Producer(topic) as producer:
        for number in range(total):
            producer.send("t", b"%d" % number, partition=number % PARTITIONS)
            if number % 800 == 400:
                victim = children.pop(0)
                victim.kill()
                lines += victim.rest()
                children += start(fork, topic, 1, auto_commit_interval_ms=20)
        producer.flush(20)
    eventually(all_committed(topic, ends_of(topic)), 20, "everything is processed and committed")
    lines += finish(children)
    assert {line[2] for line in lines} == set(range(total))


def test_a_member_that_was_taken_for_dead_cannot_commit(topic: Path, fork: Fork) -> None:
    with bus.Producer(topic) as producer:
        producer.send_many("t", [b"x"] * 10, partition=0)

    def stand(report: Report) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        consumer = member(topic, enable_auto_commit=False)
        consumer.poll(0)
        report(len(consumer.assignment()))
        signal.sigwait([signal.SIGUSR1])
        with pytest.raises(CommitFailedError):
            consumer.commit({tp(0): OffsetAndMetadata(9)})
        report("refused")
        while len(consumer.assignment()) != 2:
            consumer.poll(10)
        report("a member again")

    zombie = fork(stand)
    assert zombie.next() == PARTITIONS
    zombie.send(signal.SIGSTOP)
    with member(topic, enable_auto_commit=False) as mine:
        mine.poll(300)
        assert mine.assignment() == set(), "a stopped process is not dead"
        take_over_from(zombie, topic)
        eventually(lambda: mine.poll(10) or len(mine.assignment()) == PARTITIONS)
        mine.commit({tp(0): OffsetAndMetadata(1)})
        zombie.send(signal.SIGCONT)
        zombie.send(signal.SIGUSR1)
        assert zombie.next() == "refused"
        assert mine.committed(tp(0)) == 1
        eventually(lambda: mine.poll(10) or len(mine.assignment()) == 2)
        assert zombie.next() == "a member again"


def take_over_from(child: Child, path: Path) -> None:
    """Takes a stopped member out of the group, as if it had been taken for dead."""
    with bus.Consumer(bootstrap_servers=path) as consumer:
        client = consumer._fetcher.client
        (row,) = [row for row in client_rows(client.control) if row.pid == child.pid]
        members = MemberTable.open(client.hot_fd, ask(path, "group", name="g")["id"])
        remove_client(members, client.bells, row.slot, row.generation)
