"""Broker, replicas, producers and consumers are killed at random, one by one and all at once.

Afterwards every acknowledged record has its offset and its bytes, each producer's records are in
its order, nothing is in the log that nobody sent, and no group has skipped or outrun anything.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

import bus
from bus.structs import TopicPartition
from tests.faults.sender import PARTITIONS, origin, payload
from tests.faults.storm import ACKS, GROUPS, TOPIC, Acknowledged, Storm
from tests.faults.witness import Stored, read_all
from tests.waiting import eventually

KILLS = 10
RECORDS = 600
REBOOTS = 3
#: Longest storm on a machine that does other things too, in seconds.
STORM_S = 120.0

Log = dict[TopicPartition, list[Stored]]


@pytest.fixture
def seed() -> int:
    given = os.environ.get("BUS_FAULT_SEED")
    chosen = int(given) if given else int.from_bytes(os.urandom(3), "big")
    print(f"BUS_FAULT_SEED={chosen}")
    return chosen


def lost(log: Log, acknowledged: Iterable[Acknowledged]) -> list[Acknowledged]:
    """Acknowledged records that do not stand where the producer was told, byte for byte."""
    there = {
        (partition.partition, one.offset): one.value for partition in log for one in log[partition]
    }
    return [
        one
        for one in acknowledged
        if there.get((one.partition, one.offset)) != payload(one.seed, one.sequence)
    ]


def assert_only_what_was_sent_in_order_and_once(log: Log) -> None:
    everything: set[tuple[int, int]] = set()
    for records in log.values():
        last: dict[int, int] = {}
        for record in records:
            seed, sequence = origin(record.value)
            assert record.value == payload(seed, sequence), f"offset {record.offset}: not sent so"
            assert sequence > last.get(seed, -1), f"offset {record.offset}: out of order"
            assert (seed, sequence) not in everything
            last[seed] = sequence
            everything.add((seed, sequence))


def committed(path: Path, group: str) -> dict[int, int]:
    with bus.Admin(path) as admin:
        offsets = admin.list_group_offsets(group)[group]
    return {partition.partition: place.offset for partition, place in offsets.items()}


def assert_groups_skipped_nothing(path: Path, log: Log, storm: Storm) -> None:
    for group in set(GROUPS):
        delivered = storm.delivered(group)
        offsets = committed(path, group)
        for number, end in offsets.items():
            records = log[TopicPartition(TOPIC, number)]
            assert end <= len(records), f"{group}: {end} of {len(records)} in {number}"
            skipped = [one.offset for one in records[:end] if (number, one.offset) not in delivered]
            assert not skipped, f"{group}: partition {number} skipped {skipped[:5]}"
        digests = {
            (partition.partition, one.offset): {one.digest}
            for partition in log
            for one in log[partition]
        }
        assert not [place for place in delivered if delivered[place] != digests.get(place)]


def assert_all_becomes_durable(path: Path, log: Log) -> None:
    def is_durable() -> bool:
        partitions = admin.describe_topics([TOPIC])[0]["partitions"]
        return all(one["high_watermark"] == one["log_end_offset"] for one in partitions)

    with bus.Admin(path) as admin:
        eventually(is_durable, 20.0, "every record durable")
        ends = {
            TopicPartition(TOPIC, one["partition_index"]): one["log_end_offset"]
            for one in admin.describe_topics([TOPIC])[0]["partitions"]
        }
    assert ends == {partition: len(records) for partition, records in log.items()}


@pytest.mark.timeout(240)
def test_a_storm_of_kills_loses_nothing_that_was_acknowledged(
    bus_dir: Path, tmp_path: Path, seed: int
) -> None:
    with Storm(bus_dir, tmp_path / "diaries", seed) as storm:
        storm.rage(KILLS, RECORDS, STORM_S)
    log = read_all(bus_dir, [TOPIC])
    for partition, records in log.items():
        assert [one.offset for one in records] == list(range(len(records))), partition
    acknowledged = storm.acknowledged()
    assert {one.acks for one in acknowledged} == set(ACKS)
    assert {one.partition for one in acknowledged} == set(range(PARTITIONS))
    assert not lost(log, acknowledged)
    assert_only_what_was_sent_in_order_and_once(log)
    assert_groups_skipped_nothing(bus_dir, log, storm)
    assert_all_becomes_durable(bus_dir, log)


@pytest.mark.timeout(240)
def test_what_was_acknowledged_as_durable_survives_the_loss_of_all_memory_too(
    bus_dir: Path, tmp_path: Path, seed: int
) -> None:
    with Storm(bus_dir, tmp_path / "diaries", seed) as storm:
        for _ in range(REBOOTS):
            storm.rage(KILLS // REBOOTS, RECORDS // REBOOTS, STORM_S)
            storm.reboot()
    log = read_all(bus_dir, [TOPIC])
    durable = [one for one in storm.acknowledged() if one.acks == "all"]
    assert durable
    assert not lost(log, durable)
    assert_only_what_was_sent_in_order_and_once(log)
    with bus.Consumer(bootstrap_servers=bus_dir) as consumer:
        ends = consumer.end_offsets(list(log))
    for group in set(GROUPS):
        for number, offset in committed(bus_dir, group).items():
            assert offset <= ends[TopicPartition(TOPIC, number)]
