"""A shared bus: whom an ACL names may read or write from another account, and nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from bus.guest import GuestClient
from bus.guest_producer import GuestProducer
from bus.guest_reader import GuestReader
from tests.children import Fork, Report
from tests.security.users import ALICE, BOB, MALLORY, STAFF, as_user, becoming
from tests.waiting import eventually

#: loaded before the fork: the checkout may be closed to other users
GUEST_MODULES = (GuestClient, GuestProducer, GuestReader)


@pytest.fixture(scope="module")
def shared(open_dir: Path) -> Iterator[Path]:
    """A bus on which ALICE may read, BOB write, and members of STAFF read `t`; `private` is not."""
    with bus.Broker(open_dir), bus.Admin(open_dir) as admin:
        admin.create_topics(
            {
                "t": {
                    "num_partitions": 2,
                    "configs": {
                        "acl.read": f"user:{ALICE}, group:{STAFF}",
                        "acl.write": f"user:{BOB}",
                    },
                },
                "private": {},
            }
        )
        with bus.Producer(open_dir) as producer:
            for number in range(100):
                producer.send("t", b"%d" % number, partition=number % 2).get(timeout=10)
        eventually((open_dir / "guests.sock").exists)
        yield open_dir


def read_all(path: Path, count: int, **options: object) -> list[str]:
    found: list[str] = []
    with bus.Consumer(
        "t", bootstrap_servers=path, auto_offset_reset="earliest", **options
    ) as consumer:
        while len(found) < count:
            for records in consumer.poll(timeout_ms=5000).values():
                found += [bytes(record.value).decode() for record in records]
    return sorted(found, key=int)


def test_a_permitted_guest_reads_all_there_is(shared: Path) -> None:
    assert as_user(ALICE, lambda: read_all(shared, 100)) == [str(n) for n in range(100)]


def test_a_member_of_a_permitted_group_reads_and_others_do_not(shared: Path) -> None:
    assert len(as_user(MALLORY, lambda: read_all(shared, 100), groups=(STAFF,))) == 100
    name, text = as_user(MALLORY, lambda: read_all(shared, 1))
    assert name == "TopicAuthorizationFailedError"
    assert f"user {MALLORY} may not read topic 't'" in text
    assert f"bus topics alter t --config acl.read=user:{MALLORY}" in text


def send_one(path: Path, topic: str = "t", **options: object) -> list[object]:
    with bus.Producer(path, **options) as producer:
        stored = producer.send(
            topic, b"by a guest", key=b"k", headers=[("h", b"v"), ("none", None)]
        ).get(timeout=20)
        return [stored.topic, stored.partition, stored.offset]


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_a_permitted_guest_writes_and_the_owner_reads_it(shared: Path, acks: object) -> None:
    topic, partition, offset = as_user(BOB, lambda: send_one(shared, acks=acks))
    place = bus.TopicPartition(topic, partition)
    with bus.Consumer(bootstrap_servers=shared) as consumer:
        consumer.assign([place])
        consumer.seek(place, offset)
        record = consumer.poll(timeout_ms=10_000)[place][0]
        assert (record.key, record.value) == (b"k", b"by a guest")
        assert record.headers == [("h", b"v"), ("none", None)]


def test_reading_does_not_allow_writing_nor_writing_reading(shared: Path) -> None:
    name, text = as_user(ALICE, lambda: send_one(shared))
    assert name == "TopicAuthorizationFailedError" and "acl.write=user:" in text
    name, text = as_user(BOB, lambda: read_all(shared, 1))
    assert name == "TopicAuthorizationFailedError" and "acl.read=user:" in text


def test_a_topic_without_an_acl_looks_like_one_that_does_not_exist(shared: Path) -> None:
    _, there = as_user(BOB, lambda: send_one(shared, "private"))
    _, not_there = as_user(BOB, lambda: send_one(shared, "nowhere"))
    assert there.replace("private", "nowhere") == not_there
    with bus.Admin(shared) as admin:
        assert "nowhere" not in admin.list_topics()


def test_a_guest_lists_only_what_it_may_read(shared: Path) -> None:
    def listed() -> list[str]:
        with bus.Admin(shared) as admin:
            return admin.list_topics()

    assert [as_user(uid, listed) for uid in (ALICE, BOB, MALLORY)] == [["t"], [], []]


OWNERS_ALONE = {
    "create a topic": lambda admin: admin.create_topics(["mine"]),
    "delete a topic": lambda admin: admin.delete_topics(["t"]),
    "alter a topic": lambda admin: admin.alter_configs({"t": {"acl.read": "*"}}),
    "grow a topic": lambda admin: admin.create_partitions({"t": 5}),
    "delete records": lambda admin: admin.delete_records({bus.TopicPartition("t", 0): 1}),
    "stop the broker": lambda admin: admin._client.call("stop"),
    "see the status": lambda admin: admin._client.call("status"),
    "see the groups": lambda admin: admin._client.call("groups"),
}


@pytest.mark.parametrize("what", OWNERS_ALONE)
def test_even_a_permitted_guest_may_not(shared: Path, what: str) -> None:
    def attempt() -> None:
        with bus.Admin(shared) as admin:
            OWNERS_ALONE[what](admin)

    name, text = as_user(ALICE, attempt)
    assert name == "ClusterAuthorizationFailedError", text
    assert str(ALICE) in text and "root" in text


def test_a_waiting_guest_is_woken_by_the_next_record(shared: Path, fork: Fork) -> None:
    def wait(report: Report) -> None:
        with bus.Consumer("t", bootstrap_servers=shared, consumer_timeout_ms=20_000) as consumer:
            consumer.poll()
            report("waiting")
            for record in consumer:
                report(bytes(record.value).decode())
                return

    guest = fork(becoming(ALICE, wait))
    assert guest.next() == "waiting"
    with bus.Producer(shared) as producer:
        producer.send("t", b"news", partition=1).get(timeout=10)
    assert guest.next() == "news"
    assert guest.wait() == 0


def test_a_guest_commits_and_its_next_consumer_goes_on_there(shared: Path) -> None:
    def read_two(position: int) -> list[int]:
        with bus.Consumer(
            bootstrap_servers=shared, group_id=f"assigned-{position}", enable_auto_commit=False
        ) as consumer:
            place = bus.TopicPartition("t", 0)
            consumer.assign([place])
            consumer.seek(place, position)
            first = consumer.poll(timeout_ms=5000, max_records=2)[place]
            consumer.commit()
            return [record.offset for record in first] + [consumer.committed(place) or -1]

    assert as_user(ALICE, lambda: read_two(7)) == [7, 8, 9]

    def go_on() -> list[int]:
        with bus.Consumer(
            "t", bootstrap_servers=shared, group_id="assigned-7", auto_offset_reset="earliest"
        ) as consumer:
            found: dict[int, int] = {}
            while len(found) < 2:
                for tp, records in consumer.poll(timeout_ms=5000).items():
                    found.setdefault(tp.partition, records[0].offset)
            return [found[0], found[1]]

    assert as_user(ALICE, go_on) == [9, 0]
    with bus.Admin(shared) as admin:
        assert f"guest-{ALICE}/assigned-7" in str(admin.list_groups())


def test_two_guests_of_one_group_share_the_partitions_and_a_death_moves_them(
    shared: Path, fork: Fork
) -> None:
    def member(report: Report) -> None:
        with bus.Consumer("t", bootstrap_servers=shared, group_id="crew") as consumer:
            last = None
            while True:
                consumer.poll(timeout_ms=100)
                now = sorted(tp.partition for tp in consumer.assignment())
                if now != last:
                    report(now)
                last = now

    first = fork(becoming(ALICE, member))
    seen = [first.next()]
    while seen[-1] != [0, 1]:
        seen.append(first.next())
    second = fork(becoming(ALICE, member))
    while len(seen[-1]) != 1:
        seen.append(first.next())
    mine = [second.next()]
    while len(mine[-1]) != 1:
        mine.append(second.next())
    assert mine[-1] != seen[-1]
    first.kill()
    while mine[-1] != [0, 1]:
        mine.append(second.next())
    second.kill()
