"""What a share group keeps when members, brokers and everything die."""

import json
import os
import signal
from pathlib import Path

from bus import Attempts, Broker, Producer, ShareConsumer
from bus.directory import BusDirectory
from tests.children import Fork, Report
from tests.share.test_share_consumer import claimed, values
from tests.waiting import eventually


def member_of(bus_dir: Path) -> ShareConsumer:
    return ShareConsumer("work", group_id="team", bootstrap_servers=bus_dir)


def send(bus_dir: Path, count: int) -> None:
    with Producer(bus_dir) as producer:
        for number in range(count):
            producer.send("work", str(number).encode())


def done_in(path: Path) -> object:
    """What a group's file says is done behind the oldest record that is not."""
    tables = json.loads(path.read_bytes())["tables"]
    return next(iter(tables.values()))[2] if tables else None


def hold(bus_dir: Path, count: int, prefetch: bool = False) -> object:
    """The body of a child that claims records and never says anything more."""

    def body(report: Report) -> None:
        member = member_of(bus_dir)
        report(values(claimed(member, count, prefetch=prefetch)))
        signal.pause()

    return body


def test_what_a_killed_member_had_comes_again_at_once(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    send(bus_dir, 10)
    child = fork(hold(bus_dir, 4))  # type: ignore[arg-type]
    assert child.next() == [0, 1, 2, 3]
    with member_of(bus_dir) as member:
        member.ack(*claimed(member, 6))
        assert member.poll() == {}
        child.kill()
        again = claimed(member, 4)
        assert values(again) == [0, 1, 2, 3]
        assert member.attempts(again[0]) == Attempts(2, 0, 0, crash=1, oom=0)


def test_what_a_killed_member_had_not_begun_counts_no_crash(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    send(bus_dir, 2)
    child = fork(hold(bus_dir, 2, prefetch=True))  # type: ignore[arg-type]
    child.next()
    child.kill()
    with member_of(bus_dir) as member:
        again = claimed(member, 2)
        assert member.attempts(again[1]) == Attempts(1, 0, 0, 0, 0)


def test_members_find_the_dead_while_the_broker_is_down(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    send(bus_dir, 3)
    child = fork(hold(bus_dir, 3))  # type: ignore[arg-type]
    child.next()
    with member_of(bus_dir) as member:
        member.poll()
        os.kill(broker.pid, signal.SIGKILL)
        child.kill()
        assert values(claimed(member, 3)) == [0, 1, 2]


def test_a_stopped_member_keeps_what_it_has(broker: Broker, bus_dir: Path, fork: Fork) -> None:
    send(bus_dir, 2)
    child = fork(hold(bus_dir, 1))  # type: ignore[arg-type]
    child.next()
    child.send(signal.SIGSTOP)
    with member_of(bus_dir) as member:
        assert values(claimed(member, 1)) == [1]
        assert member.poll(3000) == {}, "it is not dead, and no timer says so"
        child.send(signal.SIGCONT)
        child.kill()
        assert values(claimed(member, 1)) == [0]


def test_a_forked_member_has_nothing_of_its_parent(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    send(bus_dir, 2)
    with member_of(bus_dir) as member:
        mine = claimed(member, 1)

        def body(report: Report) -> None:
            own = claimed(member, 1)
            member.ack(*own)
            report(values(own))
            member.close()

        assert fork(body).next() == [1]
        member.ack(*mine)


def test_a_stop_and_a_start_forget_nothing(bus_dir: Path) -> None:
    with Broker(bus_dir):
        send(bus_dir, 10)
        with member_of(bus_dir) as member:
            records = claimed(member, 10)
            member.ack(*records[3:7])
            member.reject(records[8])
            member.nack(records[9])
            member.nack(records[0], delay_ms=3_600_000)
    with Broker(bus_dir), member_of(bus_dir) as member:
        again = claimed(member, 4)
        assert values(again) == [1, 2, 7, 9]
        assert member.attempts(again[3]).failure == 1
        assert member.poll() == {}, "an hour is not over"


def test_a_record_that_was_overtaken_outlives_a_stop(bus_dir: Path) -> None:
    with Broker(bus_dir):
        send(bus_dir, 1)
        with member_of(bus_dir) as member, Producer(bus_dir, acks=1) as producer:
            claimed(member, 1)
            producer.send_many("work", [b"1"] * 70_000)
            for _ in range(70):
                member.ack(*claimed(member, 1000))
    with Broker(bus_dir), member_of(bus_dir) as member:
        assert values(claimed(member, 1)) == [0]
        assert member.poll() == {}


def test_acknowledgements_outlive_a_kill_of_everything(bus_dir: Path, fork: Fork) -> None:
    broker = Broker(bus_dir)
    broker.start()
    send(bus_dir, 100)

    def body(report: Report) -> None:
        member = member_of(bus_dir)
        records = claimed(member, 100)
        member.ack(*records[1:])
        report("done")
        signal.pause()

    child = fork(body)
    child.next()
    os.kill(broker.pid, signal.SIGKILL)
    child.kill()
    broker.stop()
    with Broker(bus_dir), member_of(bus_dir) as member:
        assert values(claimed(member, 1)) == [0]
        assert member.poll() == {}


def test_after_a_loss_of_power_what_was_kept_a_while_ago_counts(bus_dir: Path) -> None:
    """All of shared memory is gone; the file of acknowledgements is what the syncer wrote last."""
    with Broker(bus_dir) as broker:
        send(bus_dir, 100)
        with member_of(bus_dir) as member:
            member.ack(*claimed(member, 100)[1:])
            path = bus_dir / "groups" / "team.acks"
            eventually(lambda: done_in(path) == [[1, 100]], 20, "the syncer writes it down")
            os.kill(broker.pid, signal.SIGKILL)
    runtime = BusDirectory.open(bus_dir).read_runtime()
    assert runtime is not None
    for file in Path(runtime.hot_dir).iterdir():
        file.unlink()
    Path(runtime.hot_dir).rmdir()
    with Broker(bus_dir), member_of(bus_dir) as member:
        assert values(claimed(member, 1)) == [0]
        assert member.poll() == {}
