"""A member of a group is stopped: in the group's mutex, or while its membership ends."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.directory import BusDirectory
from bus.errors import (
    BrokerNotRunningError,
    BusError,
    CommitFailedError,
    LockTimeoutError,
    NonEmptyGroupError,
)
from tests.broker.rig import ask, status
from tests.children import Child, Fork, Report
from tests.handles.blocked import stopped
from tests.security.test_salvage import hot_id, moved, write_over
from tests.stops.holding import GROUP_LOCK, hold, wait_stopped
from tests.waiting import eventually

COUNT = 40


@pytest.fixture
def path(broker: bus.Broker, bus_dir: Path) -> Iterator[Path]:
    """A bus with records in both partitions of "t"."""
    with bus.Admin(bus_dir) as admin, bus.Producer(bus_dir) as producer:
        admin.create_topics([bus.NewTopic("t", 2)])
        for partition in range(2):
            producer.send_many("t", [b"x"] * COUNT, partition=partition)
    yield bus_dir


def consumer(path: Path, group: str = "g", **options: Any) -> bus.Consumer:
    options = {"auto_offset_reset": "earliest", "enable_auto_commit": False} | options
    return bus.Consumer("t", bootstrap_servers=path, group_id=group, **options)


def holder(path: Path, fork: Fork, group: str = "g", change: bool = False) -> Child:
    """A member that is stopped in its group's mutex; with `change`, in the middle of a change."""
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
    assert runtime is not None
    file = Path(runtime.hot_dir) / f"group-{ask(path, 'group', name=group, create=True)['id']}.ctl"

    def body(report: Report) -> None:
        with consumer(path, group, client_id="sloth") as member:
            member.poll(timeout_ms=200)
            members = member._fetcher.session.membership._members

            def inside() -> None:
                if change:
                    members.raise_generation()

            report("member")
            hold(file, GROUP_LOCK, inside)
            report("released")
            signal.pause()

    child = fork(body)
    assert child.next() == "member"
    wait_stopped(child.pid)
    return child


@pytest.mark.parametrize("change", [False, True], ids=["idle", "in a change"])
def test_members_read_on_while_a_stopped_process_holds_the_mutex(
    path: Path, fork: Fork, change: bool
) -> None:
    with consumer(path, enable_auto_commit=True, auto_commit_interval_ms=50) as reader:
        eventually(lambda: reader.poll(timeout_ms=100) or reader.assignment())
        sloth = holder_that_joins(path, fork, reader, change)
        mine = len(reader.assignment())
        with bus.Producer(path) as producer:
            for partition in range(2):
                producer.send_many("t", [b"y"] * COUNT, partition=partition)
        read, started = 0, time.monotonic()
        while read < mine * COUNT:
            got = reader.poll(timeout_ms=500).values()
            read += sum(record.value == b"y" for records in got for record in records)
            assert time.monotonic() - started < 5
        sloth.send(signal.SIGCONT)
        assert sloth.next() == "released"
        sloth.kill()
        eventually(lambda: reader.poll(timeout_ms=50) or len(reader.assignment()) == 2)


def holder_that_joins(path: Path, fork: Fork, reader: bus.Consumer, change: bool) -> Child:
    """The holder, while the reader hands one partition over to it."""
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
    assert runtime is not None
    group = ask(path, "group", name="g", create=True)["id"]
    file = Path(runtime.hot_dir) / f"group-{group}.ctl"

    def body(report: Report) -> None:
        with consumer(path, client_id="sloth") as member:
            while not member.assignment():
                member.poll(timeout_ms=20)
            members = member._fetcher.session.membership._members
            report("member")
            hold(file, GROUP_LOCK, members.raise_generation if change else lambda: None)
            report("released")
            signal.pause()

    child = fork(body)
    eventually(lambda: reader.poll(timeout_ms=20) or len(reader.assignment()) == 1)
    assert child.next() == "member"
    wait_stopped(child.pid)
    return child


def test_a_commit_that_cannot_have_the_mutex_says_who_holds_it_and_is_not_half_done(
    path: Path, fork: Fork
) -> None:
    with consumer(path) as reader:
        eventually(lambda: reader.poll(timeout_ms=100))
        sloth = holder_that_joins(path, fork, reader, change=False)
        reader._fetcher.session.membership._members._timeout_ms = 300
        with pytest.raises(
            LockTimeoutError,
            match=rf"group 'g' was locked for 300 ms by pid {sloth.pid} .*'sloth', state T \(st",
        ):
            reader.commit()
        mine = next(iter(reader.assignment()))
        assert reader.committed(mine) is None  # and this does not wait for it
        assert counted(path, "lock_held") >= 1
        sloth.send(signal.SIGCONT)
        assert sloth.next() == "released"
        reader.commit()
        assert reader.committed(mine) == reader.position(mine)


def counted(path: Path, name: str) -> int:
    return int(status(path)["counters"][name])


def test_other_groups_and_the_broker_do_not_notice(path: Path, fork: Fork) -> None:
    sloth = holder(path, fork, "stuck")
    with consumer(path, "free") as reader, bus.Admin(path) as admin:
        eventually(lambda: reader.poll(timeout_ms=100))
        started = time.monotonic()
        reader.commit()
        assert time.monotonic() - started < 2
        states = {one["name"]: one["state"] for one in ask(path, "groups")["groups"]}
        assert states["stuck"] == "Unknown" and states["free"] == "Stable"
        with pytest.raises(LockTimeoutError, match=rf"'stuck' .*pid {sloth.pid} .*state T"):
            admin.delete_groups(["stuck"])
    victim = fork(lambda report: _read_for_ever(path, report))
    assert victim.next() == "reads"
    victim.kill()
    eventually(lambda: counted(path, "client_reaped") == 1, 5, "the other group's member is reaped")
    sloth.send(signal.SIGCONT)
    assert sloth.next() == "released"


def _read_for_ever(path: Path, report: Report) -> None:
    with consumer(path, "third") as reader:
        while not reader.poll(timeout_ms=100):
            pass
        report("reads")
        signal.pause()


def zombie(path: Path, fork: Fork) -> Child:
    """A member that read something, stops, and then commits it: "committed", or the error."""

    def body(report: Report) -> None:
        reader = consumer(path)
        while not reader.poll(timeout_ms=100):
            pass
        report("read")
        os.kill(os.getpid(), signal.SIGSTOP)
        for _ in range(2):
            report(_outcome(reader.commit))
        os._exit(0)

    child = fork(body)
    assert child.next() == "read"
    wait_stopped(child.pid)
    return child


def _outcome(call: Callable[[], None]) -> str:
    try:
        call()
    except BusError as error:
        return type(error).__name__
    return "committed"


def test_a_stopped_member_keeps_its_group_and_is_named(path: Path, fork: Fork) -> None:
    child = zombie(path, fork)
    with (
        bus.Admin(path) as admin,
        pytest.raises(NonEmptyGroupError, match=rf"pid {child.pid} \("),
    ):
        admin.delete_groups(["g"])
    child.send(signal.SIGCONT)
    assert [child.next(), child.next()] == ["committed"] * 2


def test_a_member_that_slept_through_a_restart_of_the_bus_commits_nothing(
    bus_dir: Path, fork: Fork
) -> None:
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b"x"] * COUNT)
        producer.flush(timeout=10)
        child = zombie(bus_dir, fork)
    with bus.Broker(bus_dir), consumer(bus_dir) as successor:
        eventually(lambda: successor.poll(timeout_ms=100))
        child.send(signal.SIGCONT)
        assert [child.next(), child.next()] == [BrokerNotRunningError.__name__] * 2
        assert successor.committed(bus.TopicPartition("t", 0)) is None
        successor.commit()
        assert successor.committed(bus.TopicPartition("t", 0)) == COUNT


def test_a_commit_that_was_begun_before_a_stop_is_made_beside_no_other_bus(
    bus_dir: Path, fork: Fork
) -> None:
    """The mutex is held by a stopped process: the hot log with it is kept, and taken on."""
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b"x"] * COUNT)
        producer.flush(timeout=10)
        sloth = holder(bus_dir, fork)
    assert (bus_dir / "runtime.json").exists()
    with bus.Broker(bus_dir), consumer(bus_dir, "other") as other:
        assert status(bus_dir)["counters"]["partitions_adopted"] == 1
        eventually(lambda: other.poll(timeout_ms=100))
        other.commit()
        sloth.send(signal.SIGCONT)
        assert sloth.next() == "released"
        sloth.kill()
        with consumer(bus_dir) as successor:
            eventually(lambda: successor.poll(timeout_ms=100))
            successor.commit()
    assert not (bus_dir / "runtime.json").exists()


def test_a_commit_that_was_begun_before_a_move_does_not_overwrite_a_later_one(
    path: Path, fork: Fork
) -> None:
    """The bus leaves the mutex behind, so whoever is in it writes to a file without a name."""

    def body(report: Report) -> None:
        reader = consumer(path)
        while not reader.poll(timeout_ms=100, max_records=5):
            pass
        offsets = reader._fetcher.session.membership._tables.offsets
        real = offsets.put

        def put(*args: Any, **options: Any) -> None:
            os.kill(os.getpid(), signal.SIGSTOP)
            real(*args, **options)

        offsets.put = put  # type: ignore[method-assign]
        report("read")
        report(_outcome(reader.commit))
        os._exit(0)

    child = fork(body)
    assert child.next() == "read"
    wait_stopped(child.pid)
    before = hot_id(path)
    write_over(next(Path(status(path)["hot_dir"]).glob("*-1.ctl")), size=64)
    eventually(lambda: moved(path, before), 20.0, "the bus moved")
    with consumer(path) as successor:
        read = 0
        while read < 2 * COUNT:
            read += sum(map(len, successor.poll(timeout_ms=20_000).values()))
        successor.commit()
        ends = {one: successor.position(one) for one in successor.assignment()}
        child.send(signal.SIGCONT)
        assert child.next() == CommitFailedError.__name__
        assert {one: successor.committed(one) for one in ends} == ends


def test_a_member_that_waits_for_the_mutex_while_the_bus_moves_joins_where_it_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with consumer(path) as member:
        eventually(lambda: member.poll(timeout_ms=100))
        before = hot_id(path)

        def wait_for_the_mutex() -> None:
            write_over(next(Path(status(path)["hot_dir"]).glob("*-1.ctl")), size=64)
            eventually(lambda: member._fetcher.client.moving, 20.0, "the bus moves")
            raise LockTimeoutError("somebody else has it")

        monkeypatch.setattr(member._fetcher, "_coordinate", wait_for_the_mutex)
        member._look_again()
        assert member.poll(timeout_ms=100) == {}
        assert moved(path, before)
        with bus.Producer(path) as producer:
            producer.send("t", b"after")
        eventually(lambda: member.poll(timeout_ms=100), 20.0, "a record after the move")
        member.commit()


def test_a_broker_that_takes_over_does_not_fence_a_stopped_member_that_lives(
    bus_dir: Path, fork: Fork
) -> None:
    broker = bus.Broker(bus_dir).start()
    with bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b"x"] * COUNT)
        producer.flush(timeout=10)
    child = zombie(bus_dir, fork)
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()
    with bus.Broker(bus_dir), stopped():
        child.send(signal.SIGCONT)
        assert [child.next(), child.next()] == ["committed"] * 2
