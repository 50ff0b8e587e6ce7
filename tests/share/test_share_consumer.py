"""The members of a share group: claims, and what becomes of each record."""

import pickle
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bus import Admin, Attempts, Consumer, ConsumerRecord, NewTopic, Producer, ShareConsumer
from bus.errors import (
    BackpressureError,
    BusConfigurationError,
    ClosedError,
    IllegalStateError,
    InconsistentGroupProtocolError,
)
from bus.structs import TopicPartition
from tests.waiting import eventually

WORK = TopicPartition("work", 0)


class Team:
    """A producer, and as many members of one group as are asked for."""

    def __init__(self, bus_dir: Path, stack: ExitStack) -> None:
        self._bus_dir = bus_dir
        self._stack = stack
        self.producer = stack.enter_context(Producer(bus_dir, acks=1))

    def send(self, count: int, topic: str = "work") -> None:
        for number in range(count):
            self.producer.send(topic, str(number).encode())

    def member(self, *topics: str, **options: object) -> ShareConsumer:
        given = {"group_id": "team", "bootstrap_servers": self._bus_dir, **options}
        member = ShareConsumer(*(topics or ("work",)), **given)  # type: ignore[arg-type]
        return self._stack.enter_context(member)


@pytest.fixture
def team(broker: object, bus_dir: Path) -> Iterator[Team]:
    with ExitStack() as stack:
        yield Team(bus_dir, stack)


def claimed(member: ShareConsumer, count: int, **options: bool) -> list[ConsumerRecord]:
    """So many records, in the order in which they were given."""
    records: list[ConsumerRecord] = []
    while len(records) < count:
        found = member.poll(10_000, max_records=count - len(records), **options)
        assert found, f"only {len(records)} of {count} records came"
        records += [record for some in found.values() for record in some]
    return records


def values(records: list[ConsumerRecord]) -> list[int]:
    return [int(record.value) for record in records]


def test_each_record_goes_to_one_member(team: Team) -> None:
    team.send(100)
    one, other = team.member(), team.member()
    first, second = claimed(one, 40), claimed(other, 60)
    assert sorted(values(first) + values(second)) == list(range(100))
    one.ack(*first)
    other.ack(*second)
    assert one.poll() == other.poll() == {}


def test_a_member_may_claim_from_every_partition(team: Team, bus_dir: Path) -> None:
    with Admin(bus_dir) as admin:
        admin.create_topics([NewTopic("work", num_partitions=4)])
    for number in range(40):
        team.producer.send("work", str(number).encode(), partition=number % 4)
    member = team.member()
    records = claimed(member, 40)
    assert sorted(values(records)) == list(range(40))
    assert {record.partition for record in records} == {0, 1, 2, 3}


def test_iteration_claims_one_record_at_a_time(team: Team) -> None:
    team.send(3)
    one, other = team.member(), team.member(consumer_timeout_ms=100)
    first = next(one)
    assert one.in_flight() == 1
    rest = []
    for record in other:
        other.ack(record)
        rest.append(record)
    assert (values([first]), values(rest)) == ([0], [1, 2])


def test_a_slow_record_does_not_hold_up_the_others(team: Team) -> None:
    team.send(200_000)
    slow, fast = team.member(), team.member()
    stuck = claimed(slow, 1)
    for _ in range(199):
        fast.ack(*claimed(fast, 1000))
    rest = claimed(fast, 999)
    fast.ack(*rest)
    assert values(rest)[-1] == 199_999
    assert slow.metrics()["work-0"]["low"] == 0, "what is not done must not count as done"
    slow.ack(*stuck)
    assert slow.metrics()["work-0"]["low"] == 200_000


def test_a_nack_gives_the_record_to_anybody_and_is_counted(team: Team) -> None:
    team.send(2)
    one, other = team.member(), team.member()
    records = claimed(one, 2)
    one.nack(records[0])
    one.nack(records[1], cause="timeout")
    again = claimed(other, 2)
    assert values(again) == [0, 1]
    assert other.attempts(again[0]) == Attempts(2, failure=1, timeout=0, crash=0, oom=0)
    assert other.attempts(again[1]) == Attempts(2, failure=0, timeout=1, crash=0, oom=0)


def test_a_delayed_record_comes_when_it_is_due_and_not_before(team: Team) -> None:
    team.send(1)
    member = team.member()
    member.nack(claimed(member, 1)[0], delay_ms=400)
    assert member.poll() == {}
    again = claimed(member, 1)[0]
    assert member.attempts(again).failure == 1


def test_a_sleeping_member_is_woken_by_what_another_gives_back(team: Team, fork: object) -> None:
    team.send(1)
    holder, sleeper = team.member(), team.member()
    record = claimed(holder, 1)[0]
    import threading

    timer = threading.Timer(0.2, holder.release, [record])
    timer.start()
    assert values(claimed(sleeper, 1)) == [0]
    timer.join()


def test_a_released_record_counts_nothing_if_nobody_began_with_it(team: Team) -> None:
    team.send(1)
    member = team.member()
    record = claimed(member, 1, prefetch=True)[0]
    member.release(record)
    record = claimed(member, 1, prefetch=True)[0]
    assert member.start(record)
    assert member.attempts(record) == Attempts(1, 0, 0, 0, 0)


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_released_with_a_delay_comes_when_it_is_due_and_counts_nothing(
    team: Team, begun: bool
) -> None:
    team.send(2)
    member = team.member()
    first, second = claimed(member, 2, prefetch=not begun)
    since = time.monotonic()
    member.release(first, second, delay_ms=300)
    assert member.poll() == {}
    assert member.metrics()["work-0"]["delayed"] == 2
    again = claimed(member, 2)
    assert time.monotonic() - since >= 0.3
    assert values(again) == [0, 1]
    deliveries = 1 if not begun else 2
    assert [member.attempts(one) for one in again] == [Attempts(deliveries, 0, 0, 0, 0)] * 2


def test_a_release_refuses_a_delay_that_makes_no_sense_and_keeps_the_record(team: Team) -> None:
    team.send(1)
    member = team.member()
    [record] = claimed(member, 1)
    for delay_ms in (-1, float("nan")):
        with pytest.raises(ValueError, match="delay_ms is"):
            member.release(record, delay_ms=delay_ms)
    assert member.in_flight() == 1


def test_an_idle_member_takes_what_another_reserved_and_does_not_begin_with(team: Team) -> None:
    team.send(3)
    slow, idle = team.member(), team.member()
    first, second, third = claimed(slow, 3, prefetch=True)
    assert slow.start(first)
    taken = claimed(idle, 2)
    assert values(taken) == [2, 1], "what its owner would begin with last goes first"
    assert idle.attempts(taken[0]) == Attempts(1, 0, 0, 0, 0)
    assert not slow.start(second)
    assert not slow.start(third)
    slow.ack(first)
    idle.ack(*taken)
    assert slow.metrics()["work-0"]["low"] == 3


def test_what_a_member_works_on_is_taken_by_nobody(team: Team) -> None:
    team.send(1)
    slow, idle = team.member(), team.member()
    slow.start(claimed(slow, 1, prefetch=True)[0])
    assert idle.poll(100) == {}


def test_a_rejected_record_never_comes_again(team: Team) -> None:
    team.send(2)
    member = team.member()
    first, second = claimed(member, 2)
    member.reject(first)
    member.ack(second)
    assert member.poll() == {}
    assert member.metrics()["work-0"] | {"dead": 1, "done": 1} == member.metrics()["work-0"]


def test_the_low_end_is_the_committed_offset(team: Team, bus_dir: Path) -> None:
    team.send(10)
    with ShareConsumer("work", group_id="team", bootstrap_servers=bus_dir) as member:
        records = claimed(member, 10)
        member.ack(*records[:4], *records[5:])
    with Admin(bus_dir) as admin:
        assert admin.list_group_offsets("team")["team"][WORK].offset == 4


def test_a_member_that_leaves_gives_back_what_it_has(team: Team, bus_dir: Path) -> None:
    team.send(5)
    with ShareConsumer("work", group_id="team", bootstrap_servers=bus_dir) as member:
        records = claimed(member, 5)
        member.ack(records[2])
    assert values(claimed(team.member(), 4)) == [0, 1, 3, 4]


def test_what_is_not_held_cannot_be_acknowledged(team: Team) -> None:
    team.send(3)
    one, other = team.member(), team.member()
    mine = claimed(one, 2)
    one.ack(mine[0])
    with pytest.raises(IllegalStateError, match="work-0 offset 0"):
        one.ack(*mine)
    for wrong in (
        lambda: other.ack(mine[1]),
        lambda: one.nack(mine[1]),
        lambda: one.extend(mine[1], 5),
    ):
        with pytest.raises(IllegalStateError):
            wrong()
    with pytest.raises(IllegalStateError):
        one.attempts(mine[0])


def test_everything_is_held_that_was_claimed_and_not_settled(team: Team) -> None:
    team.send(10)
    member = team.member()
    records = claimed(member, 10)
    member.extend(records[0], 1000)
    member.ack(*records[:3])
    assert member.in_flight() == 7


def test_records_that_were_deleted_are_not_waited_for(team: Team, bus_dir: Path) -> None:
    team.send(10)
    member = team.member()
    with Admin(bus_dir) as admin:
        admin.delete_records({WORK: 6})
    records = claimed(member, 4)
    member.ack(*records)
    assert values(records) == [6, 7, 8, 9]
    assert member.metrics()["work-0"]["low"] == 10


def test_a_topic_in_memory_keeps_what_is_not_acknowledged(team: Team, bus_dir: Path) -> None:
    """The ring is much smaller than what is sent, and blocks instead of overwriting."""
    configs = {"durability": "memory", "segment.bytes": str(1 << 20), "hot.bytes": str(4 << 20)}
    with Admin(bus_dir) as admin:
        admin.create_topics([NewTopic("ram", topic_configs=configs)])
    slow, fast = team.member("ram"), team.member("ram")
    team.producer.send("ram", b"first")
    stuck = claimed(slow, 1)[0]
    with Producer(bus_dir, acks=1, max_block_ms=1500) as hasty:
        sent = 0
        with pytest.raises(BackpressureError, match="ram"):
            while sent < 1000:
                hasty.send("ram", bytes(65536))
                sent += 1
        assert 30 < sent < 100, "the ring must be full, and not overwritten"
        fast.ack(*claimed(fast, sent))
        assert bytes(stuck.value) == b"first"
        slow.ack(stuck)
        hasty.send("ram", b"there is room again")
    assert claimed(fast, 1)[0].value == b"there is room again"


def test_a_consumer_and_a_share_consumer_are_never_in_one_group(team: Team, bus_dir: Path) -> None:
    team.send(1)
    consumer = Consumer("work", group_id="stream", bootstrap_servers=bus_dir)
    with consumer, pytest.raises(InconsistentGroupProtocolError, match="Consumers in it"):
        team.member(group_id="stream")
    team.member()
    with pytest.raises(InconsistentGroupProtocolError, match="share group"):
        Consumer("work", group_id="team", bootstrap_servers=bus_dir)


def test_a_new_topic_and_new_partitions_are_found(team: Team, bus_dir: Path) -> None:
    member = team.member("work", "more")
    team.send(1, topic="more")
    assert claimed(member, 1)[0].topic == "more"
    with Admin(bus_dir) as admin:
        admin.create_partitions({"more": 3})
    team.producer.send("more", b"7", partition=2)
    assert claimed(member, 1)[0].partition == 2


def test_a_deleted_topic_ends_its_claims(team: Team, bus_dir: Path) -> None:
    team.send(1, topic="gone")
    member = team.member("gone", "work")
    record = claimed(member, 1)[0]
    with Admin(bus_dir) as admin:
        admin.delete_topics(["gone"])
    team.send(1)
    assert claimed(member, 1)[0].topic == "work"
    with pytest.raises(IllegalStateError):
        member.ack(record)


def test_offsets_can_be_set_back_when_nobody_is_in_the_group(team: Team, bus_dir: Path) -> None:
    team.send(5)
    with ShareConsumer("work", group_id="team", bootstrap_servers=bus_dir) as member:
        member.ack(*claimed(member, 5))
    with Admin(bus_dir) as admin:
        admin.alter_group_offsets("team", {WORK: 2})
    assert values(claimed(team.member(), 3)) == [2, 3, 4]


def test_a_deleted_group_begins_anew(team: Team, bus_dir: Path) -> None:
    team.send(2)
    with ShareConsumer("work", group_id="team", bootstrap_servers=bus_dir) as member:
        member.ack(*claimed(member, 2))
    with Admin(bus_dir) as admin:
        admin.delete_groups(["team"])
    assert values(claimed(team.member(), 2)) == [0, 1]
    assert not list(Path("/dev/shm").glob("acks-*"))


def test_a_new_group_may_begin_at_the_end(team: Team) -> None:
    team.send(5)
    member = team.member(auto_offset_reset="latest")
    team.producer.send("work", b"99")
    assert values(claimed(member, 1)) == [99]


def test_a_pickled_member_joins_by_itself(team: Team) -> None:
    team.send(2)
    member = team.member()
    claimed(member, 1)
    with pickle.loads(pickle.dumps(member)) as copy:
        assert values(claimed(copy, 1)) == [1]


def test_a_closed_member_says_so(team: Team) -> None:
    member = team.member()
    member.close()
    member.close()
    with pytest.raises(ClosedError):
        member.poll()


def test_wrong_options_are_named(team: Team, bus_dir: Path) -> None:
    with pytest.raises(BusConfigurationError, match="auto_offset_reset"):
        team.member(auto_offset_reset="none")
    with pytest.raises(TypeError, match="max_poll_records"):
        team.member(max_poll_record=5)
    member = team.member()
    team.send(1)
    record = claimed(member, 1)[0]
    with pytest.raises(ValueError, match="cause"):
        member.nack(record, cause="whim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delay_ms"):
        member.nack(record, delay_ms=-1)


def test_the_broker_counts_and_describes_a_share_group(team: Team, bus_dir: Path) -> None:
    team.member()
    with Admin(bus_dir) as admin:
        described = eventually(lambda: admin.describe_groups(["team"])["team"])
        assert described["group_state"] == "Stable"
        assert len(described["members"]) == 1
