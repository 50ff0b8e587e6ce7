"""Keyed mode of a share group: the records of one key one after the other, those of others not."""

import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from bus import Admin, Attempts, Broker, NewTopic, Producer, ShareConsumer
from bus.cli.groups import groups
from bus.errors import BusConfigurationError, InconsistentGroupProtocolError
from bus.kept_acks import believed
from bus.structs import TopicPartition
from tests.children import Fork, Report
from tests.share.test_share_consumer import Team, claimed, team, values

__all__ = ["team"]


def keyed(team: Team, **options: object) -> ShareConsumer:
    return team.member(mode="keyed", **options)


def send(team: Team, text: str) -> None:
    """A record for each letter, with it as key; a dot is a record without one."""
    send_by(team.producer, text)


def send_by(producer: Producer, text: str) -> None:
    for number, letter in enumerate(text):
        key = None if letter == "." else letter.encode()
        producer.send("work", str(number).encode(), key=key)


def member_of(bus_dir: Path, mode: str = "keyed") -> ShareConsumer:
    options = {"group_id": "team", "bootstrap_servers": bus_dir, "mode": mode}
    return ShareConsumer("work", **options)  # type: ignore[arg-type]


def waiting(member: ShareConsumer) -> int:
    return member.metrics()["work-0"]["waiting"]


def test_one_record_of_a_key_is_given_at_a_time(team: Team) -> None:
    send(team, "aabab.a.")
    member = keyed(team)
    first = claimed(member, 4)
    assert values(first) == [0, 2, 5, 7], "one of a, one of b, and those without a key"
    assert member.poll(50) == {}
    member.ack(first[0])
    (second,) = claimed(member, 1)
    assert values([second]) == [1]
    assert member.metrics()["work-0"]["waiting"] == 3
    member.ack(first[1], second)
    assert values(claimed(member, 2)) == [3, 4]


def test_a_record_that_is_put_off_keeps_those_behind_it_waiting(team: Team) -> None:
    send(team, "aab")
    member = keyed(team)
    first, other = claimed(member, 2)
    member.nack(first, delay_ms=200)
    member.ack(other)
    assert member.poll(20) == {}
    (again,) = claimed(member, 1)
    assert values([again]) == [0] and member.attempts(again).failure == 1
    member.nack(again)
    (again,) = claimed(member, 1)
    member.release(again)
    (again,) = claimed(member, 1)
    assert values([again]) == [0]
    member.reject(again)
    assert values(claimed(member, 1)) == [1]


def test_what_was_reserved_and_stolen_is_still_the_only_one_of_its_key(team: Team) -> None:
    send(team, "aaabbb")
    slow, idle = keyed(team), keyed(team)
    reserved = claimed(slow, 2, prefetch=True)
    assert values(reserved) == [0, 3]
    stolen = claimed(idle, 2)
    assert sorted(values(stolen)) == [0, 3]
    assert not slow.start(reserved[0]) and not slow.start(reserved[1])
    assert slow.poll(20) == {}
    idle.ack(*stolen)
    assert sorted(values(claimed(slow, 2))) == [1, 4]


def test_members_on_several_partitions_never_pass_a_record_of_their_key(
    broker: object, bus_dir: Path, team: Team
) -> None:
    with Admin(bus_dir) as admin:
        admin.create_topics([NewTopic("wide", num_partitions=4)])
    for number in range(400):
        team.producer.send("wide", str(number).encode(), key=b"%d" % (number % 23))
    members = [team.member("wide", mode="keyed") for _ in range(3)]
    order: dict[int, list[int]] = {}
    while sum(map(len, order.values())) < 400:
        for member in members:
            for records in member.poll(20, max_records=7).values():
                for record in records:
                    number = int(record.value)
                    order.setdefault(number % 23, []).append(number)
                member.ack(*records)
    assert all(one == sorted(one) for one in order.values()), order


def test_a_member_of_another_mode_is_told_both(broker: object, bus_dir: Path, team: Team) -> None:
    keyed(team)
    with pytest.raises(InconsistentGroupProtocolError, match=r"'keyed', .* asks .* 'queue'"):
        team.member()
    with pytest.raises(BusConfigurationError, match="mode is 'random'"):
        team.member(mode="random")
    with Admin(bus_dir) as admin:
        (found,) = admin.describe_groups(["team"]).values()
        assert (found["mode"], found["protocol_type"]) == ("keyed", "share")
    team.member(group_id="other")
    with pytest.raises(InconsistentGroupProtocolError, match=r"'queue', .* asks .* 'keyed'"):
        keyed(team, group_id="other")


def test_a_groups_mode_outlives_a_stop_and_ends_with_the_group(bus_dir: Path) -> None:
    with Broker(bus_dir), Producer(bus_dir) as producer, member_of(bus_dir):
        send_by(producer, "a")
    with Broker(bus_dir):
        with pytest.raises(InconsistentGroupProtocolError, match="has mode 'keyed'"):
            member_of(bus_dir, "queue")
        with Admin(bus_dir) as admin:
            admin.delete_groups(["team"])
        with member_of(bus_dir, "queue") as member:
            assert values(claimed(member, 1)) == [0]


def test_the_command_line_shows_the_mode_and_what_waits(
    broker: object, bus_dir: Path, team: Team
) -> None:
    send(team, "aaa")
    claimed(keyed(team), 1)
    shown = CliRunner().invoke(groups, ["describe", "team", "--dir", str(bus_dir)])
    assert "mode keyed" in shown.output and "waiting" in shown.output
    as_json = CliRunner().invoke(groups, ["describe", "team", "--dir", str(bus_dir), "--json"])
    found = json.loads(as_json.output)
    assert found["mode"] == "keyed" and found["shares"][0]["waiting"] == 2


def test_after_a_stop_what_was_not_done_comes_in_its_order(bus_dir: Path) -> None:
    with Broker(bus_dir), Producer(bus_dir) as producer, member_of(bus_dir) as member:
        send_by(producer, "aaabbcd")
        first = claimed(member, 4)
        assert values(first) == [0, 3, 5, 6]
        member.ack(first[0], first[2])
        member.nack(first[1], delay_ms=3_600_000)
    with Broker(bus_dir), member_of(bus_dir) as member:
        again = claimed(member, 2)
        assert values(again) == [1, 6]
        assert member.poll(20) == {}, "the first of b is put off for an hour, and b waits"
        member.ack(*again)
        assert values(claimed(member, 1)) == [2]
        assert waiting(member) == 1


def test_a_key_that_is_stuck_holds_up_no_other_and_comes_in_order_after_a_stop(
    bus_dir: Path,
) -> None:
    """The table has no room for most of those that wait for it."""
    count, stuck = 68_000, range(0, 68_000, 400)
    with Broker(bus_dir):
        with Producer(bus_dir, acks=1) as producer:
            for number in stuck:
                producer.send("work", str(number).encode(), key=b"stuck")
                producer.send_many("work", [b""] * 399)
        with member_of(bus_dir) as member:
            done = 0
            while done < count - len(stuck):
                records = [one for one in claimed(member, 1) if one.key is None]
                records += [one for some in member.poll(max_records=800).values() for one in some]
                member.ack(*records)
                done += len(records)
            figures = member.metrics()["work-0"]
            assert (figures["low"], figures["overtaken"], figures["parked"]) == (0, 1, 1)
    with Broker(bus_dir), member_of(bus_dir) as member:
        for number in stuck:
            (record,) = claimed(member, 1)
            assert (record.key, int(record.value)) == (b"stuck", number)
            member.ack(record)
        assert member.poll(20) == {}
        assert member.metrics()["work-0"]["low"] == count


def test_a_killed_members_records_come_before_those_that_wait_for_them(
    broker: Broker, bus_dir: Path, fork: Fork
) -> None:
    with Producer(bus_dir) as producer:
        send_by(producer, "aabb")

    def body(report: Report) -> None:
        report(values(claimed(member_of(bus_dir), 2)))
        signal.pause()

    child = fork(body)
    assert child.next() == [0, 2]
    with member_of(bus_dir) as member:
        assert member.poll(20) == {}
        child.kill()
        again = claimed(member, 2)
        assert values(again) == [0, 2]
        assert member.attempts(again[0]) == Attempts(2, 0, 0, crash=1, oom=0)
        member.ack(*again)
        assert values(claimed(member, 2)) == [1, 3]


def test_a_kill_of_everything_changes_no_order(bus_dir: Path, fork: Fork) -> None:
    broker = Broker(bus_dir)
    broker.start()
    with Producer(bus_dir) as producer:
        send_by(producer, "aaabbb")

    def body(report: Report) -> None:
        member = member_of(bus_dir)
        records = claimed(member, 2)
        member.ack(records[0])
        report(values(claimed(member, 1)))
        signal.pause()

    child = fork(body)
    assert child.next() == [1]
    os.kill(broker.pid, signal.SIGKILL)
    child.kill()
    broker.stop()
    with Broker(bus_dir), member_of(bus_dir) as member:
        assert sorted(values(claimed(member, 2))) == [1, 3]
        assert member.poll(20) == {}


def test_what_a_deletion_has_taken_is_passed_over(bus_dir: Path) -> None:
    with Broker(bus_dir):
        with Producer(bus_dir) as producer, member_of(bus_dir) as member:
            send_by(producer, "aaab")
            claimed(member, 2)
        with Admin(bus_dir) as admin:
            admin.delete_records({TopicPartition("work", 0): 2})
        with member_of(bus_dir) as member:
            assert sorted(values(claimed(member, 2))) == [2, 3]


GOOD = {"group": "team", "group_id": 3, "mode": "keyed", "lanes": 4096}


@pytest.mark.parametrize(
    "table",
    [
        [5, 10, [], []],
        [5, 10, [], [[1, 0, [0] * 8]], []],
        [5, 10, [], [[1, 0, [0] * 8, 4097]], []],
        [5, 10, [], [[1, 0, [0] * 8, -1]], []],
        [5, 10, [], [], [[0, 1]]],
        [5, 10, [], [], [[4097, 1]]],
        [5, 10, [], [], [[1, 5]]],
        [5, 10, [], [], [[1, 2], [1, 3]]],
        [5, 10, [], [], None],
    ],
)
def test_what_contradicts_itself_of_lanes_is_not_believed(table: object) -> None:
    good = [5, 10, [[7, 8]], [[1, 0, [0] * 8, 9]], [[9, 2]]]
    found = believed({**GOOD, "tables": {"7-0": good}}, "team", 3)[7, 0]
    assert found.parked == [(9, 2)] and found.left[0].lane == 9
    with pytest.raises(ValueError, match="partition 7-0"):
        believed({**GOOD, "tables": {"7-0": table}}, "team", 3)
    for changed in ({"lanes": 1024}, {"mode": "other"}):
        with pytest.raises(ValueError, match=next(iter(changed))):
            believed({**GOOD, **changed, "tables": {"7-0": good}}, "team", 3)
