"""Topics come, grow, change and go while the bus runs; their files follow."""

import os
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.errors import (
    BusConfigurationError,
    BusError,
    InvalidPartitionsError,
    InvalidTopicError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from tests.broker.rig import (
    ask,
    create_topic,
    durable_files,
    is_alive,
    kill,
    kill_broker,
    replica,
    status,
)
from tests.waiting import eventually

MIB = 1 << 20


def hot_files(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(status(path)["hot_dir"]) if name[0].isdigit())


def fill(path: Path, count: int, size: int = 1000) -> None:
    with bus.Producer(path, autostart=False) as producer:
        for _ in range(count):
            future = producer.send("t", b"x" * size, partition=0)
        future.get(timeout=30)


def test_a_new_topic_has_a_replica_and_one_mib_of_ram_per_partition(
    bus_dir: Path, broker: Broker
) -> None:
    create_topic(bus_dir, partitions=3)
    assert len({replica(bus_dir, partition)["pid"] for partition in range(3)}) == 3
    assert status(bus_dir)["hot_bytes"] == 3 * MIB
    assert len(hot_files(bus_dir)) == 6


def test_a_topic_that_exists_is_not_made_again(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    with pytest.raises(TopicAlreadyExistsError):
        create_topic(bus_dir)
    assert ask(bus_dir, "topic", name="t", create=True)["topic"]["id"] == 1


def test_topics_are_created_all_or_none(bus_dir: Path, broker: Broker) -> None:
    for wrong, error in [
        ({"name": "no/slash"}, InvalidTopicError),
        ({"name": "u", "partitions": 0}, InvalidPartitionsError),
        ({"name": "u", "configs": {"retention.ms": "soon"}}, BusConfigurationError),
        ({"name": "good"}, InvalidTopicError),
    ]:
        with pytest.raises(error):
            ask(bus_dir, "create_topics", topics=[{"name": "good"}, wrong])
    assert ask(bus_dir, "topics")["topics"] == []


def test_validating_creates_nothing(bus_dir: Path, broker: Broker) -> None:
    answer = ask(
        bus_dir, "create_topics", topics=[{"name": "t", "partitions": -1}], validate_only=True
    )
    assert answer["topics"][0]["partitions"] == 1
    assert ask(bus_dir, "topics")["topics"] == []


def test_a_deleted_topic_leaves_no_replica_no_ram_and_no_file(
    bus_dir: Path, broker: Broker
) -> None:
    create_topic(bus_dir, partitions=2)
    fill(bus_dir, 10)
    pids = [replica(bus_dir, partition)["pid"] for partition in range(2)]
    ask(bus_dir, "delete_topics", names=["t"])
    eventually(lambda: not any(map(is_alive, pids)), what="the end of its replicas")
    assert hot_files(bus_dir) == []
    assert not (bus_dir / "topics" / "t").exists()
    assert status(bus_dir)["counters"]["replica_restarts"] == 0
    with pytest.raises(UnknownTopicOrPartitionError):
        ask(bus_dir, "delete_topics", names=["t"])


def test_a_topic_made_again_is_another_one(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    fill(bus_dir, 10)
    ask(bus_dir, "delete_topics", names=["t"])
    create_topic(bus_dir)
    fill(bus_dir, 1)
    assert replica(bus_dir)["log_end_offset"] == 1
    assert ask(bus_dir, "topic", name="t")["topic"]["id"] == 2


def test_partitions_are_added(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    ask(bus_dir, "create_partitions", name="t", total=3)
    with bus.Producer(bus_dir, autostart=False) as producer:
        assert producer.send("t", b"x", partition=2).get(timeout=10).partition == 2
    with pytest.raises(InvalidPartitionsError):
        ask(bus_dir, "create_partitions", name="t", total=2)


def test_changed_configs_hold_at_once_and_after_a_restart(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir)
    with bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"x" * 2000).get(timeout=10)
        ask(bus_dir, "alter_configs", name="t", configs={"max.message.bytes": 1000})
        with pytest.raises(BusError, match="1000"):
            producer.send("t", b"x" * 2000)
    with pytest.raises(BusConfigurationError, match="durability"):
        ask(bus_dir, "alter_configs", name="t", configs={"durability": "memory"})
    assert ask(bus_dir, "topic", name="t")["topic"]["configs"]["max.message.bytes"] == "1000"


def test_records_are_deleted_up_to_an_offset(bus_dir: Path, broker: Broker) -> None:
    create_topic(bus_dir, segment_bytes=MIB, hot_bytes=4 * MIB)
    fill(bus_dir, 5000)
    files = durable_files(bus_dir)
    assert len(files) > 4
    answer = ask(bus_dir, "delete_records", name="t", partition=0, offset=int(files[3][:-4]) + 1)
    assert answer == {"log_start_offset": int(files[3][:-4]) + 1}
    assert durable_files(bus_dir) == files[3:]
    again = ask(bus_dir, "delete_records", name="t", partition=0, offset=0)
    assert again == answer
    with pytest.raises(OffsetOutOfRangeError, match="up to offset 5000"):
        ask(bus_dir, "delete_records", name="t", partition=0, offset=5001)


def test_old_segments_go_by_size_and_by_age(bus_dir: Path) -> None:
    config = bus.BrokerConfig(retention_check_ms=50)
    with Broker(bus_dir, config=config):
        create_topic(bus_dir, segment_bytes=MIB, hot_bytes=4 * MIB, retention_bytes=3 * MIB)
        fill(bus_dir, 8000)
        eventually(lambda: len(durable_files(bus_dir)) <= 4, what="4 segments at most")
        assert len(durable_files(bus_dir)) >= 3
        ask(bus_dir, "alter_configs", name="t", configs={"retention.ms": 1})
        eventually(lambda: len(durable_files(bus_dir)) <= 1, what="no old segment")
        counters = status(bus_dir)["counters"]
        assert counters["segments_deleted"] >= 6
        assert counters["segments_rolled_for_age"] >= 1


def test_memory_topics_give_up_old_records_too(bus_dir: Path) -> None:
    config = bus.BrokerConfig(retention_check_ms=50)
    with Broker(bus_dir, config=config):
        create_topic(bus_dir, durability="memory", retention_ms=1)
        fill(bus_dir, 10)
        eventually(lambda: status(bus_dir)["counters"]["segments_deleted"] >= 1, what="retention")


def test_a_record_larger_than_the_first_segment_gets_its_room(
    bus_dir: Path, broker: Broker
) -> None:
    create_topic(bus_dir)
    with bus.Producer(bus_dir, autostart=False) as producer:
        producer.send("t", b"x" * (5 * MIB)).get(timeout=20)
        producer.send("t", b"x").get(timeout=20)


def test_unknown_operations_and_bad_arguments_are_answered(bus_dir: Path, broker: Broker) -> None:
    with pytest.raises(UnsupportedVersionError, match="frobnicate"):
        ask(bus_dir, "frobnicate")
    with pytest.raises(BusError, match="name"):
        ask(bus_dir, "topic")
    with pytest.raises(InvalidTopicError):
        ask(bus_dir, "topic", name="../escape", create=True)


def test_groups_are_made_listed_and_deleted(bus_dir: Path, broker: Broker) -> None:
    made = ask(bus_dir, "group", name="g/1", create=True)
    assert ask(bus_dir, "group", name="g/1") == made
    listed = ask(bus_dir, "groups")["groups"]
    assert [(group["name"], group["members"]) for group in listed] == [("g/1", 0)]
    assert (bus_dir / "groups" / "g%2F1.offsets").exists()
    ask(bus_dir, "delete_group", name="g/1")
    assert ask(bus_dir, "groups")["groups"] == []
    assert list((bus_dir / "groups").iterdir()) == []


def test_groups_survive_a_stop(bus_dir: Path) -> None:
    with Broker(bus_dir):
        made = ask(bus_dir, "group", name="g", create=True)
    with Broker(bus_dir):
        assert ask(bus_dir, "group", name="g") == made


def test_a_hello_for_a_slot_of_somebody_else_is_refused(bus_dir: Path, broker: Broker) -> None:
    for slot, generation in [(5, 77), (4096, 1), (-1, 1), ("x", 1)]:
        with pytest.raises(BusError):
            ask(bus_dir, "hello", slot=slot, generation=generation)
    assert status(bus_dir)["clients"] == []


@pytest.mark.parametrize("durability", ["replicated", "memory"])
def test_a_record_larger_than_every_file_of_a_full_ring_gets_its_room(
    bus_dir: Path, broker: Broker, durability: str
) -> None:
    create_topic(bus_dir, durability=durability)
    with bus.Producer(bus_dir, autostart=False, max_block_ms=10_000) as producer:
        for _ in range(80):
            producer.send("t", b"x" * MIB)
        assert producer.send("t", b"x" * (20 * MIB)).get(timeout=20).offset == 80


def test_what_a_broker_left_that_died_while_it_made_a_topic_is_in_nobodys_way(
    bus_dir: Path,
) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    hot = Path(status(bus_dir)["hot_dir"])
    pid = replica(bus_dir)["pid"]
    kill_broker(broker)
    kill(pid)
    hot.joinpath("1-0.ctl").rename(hot / "1-0.ctl.new")
    with Broker(bus_dir):
        fill(bus_dir, 3)
        assert not hot.joinpath("1-0.ctl.new").exists()
    broker.stop()
