"""How much is taken: by records, by bytes, by group, and from where a group counts."""

from pathlib import Path

import pytest

from bus.admin import Admin
from bus.errors import BackpressureError
from tests.lag.rig import FRAME_BYTES, T0, alter, commit, fill, limited_topic, reader, sender


@pytest.mark.parametrize("durability", ["memory", "replicated"])
def test_records_are_taken_up_to_the_limit_and_as_many_again_as_are_committed(
    shared_bus: Path, durability: str
):
    limited_topic(shared_bus, max_lag_records=10, durability=durability)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        assert fill(producer) == 10
        commit(consumer, 4)
        assert fill(producer) == 4
        assert fill(producer) == 0
        assert consumer.highwater(T0) == 14


@pytest.mark.parametrize("durability", ["memory", "replicated"])
def test_bytes_are_taken_up_to_the_limit_and_one_record_beyond_it(
    shared_bus: Path, durability: str
):
    limited_topic(shared_bus, max_lag_bytes=10 * FRAME_BYTES + 1, durability=durability)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        assert fill(producer) == 11
        commit(consumer, 3)
        assert fill(producer) == 3


def test_a_record_larger_than_the_limit_of_bytes_is_taken_when_nothing_lags(shared_bus: Path):
    limited_topic(shared_bus, max_lag_bytes=100)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        assert fill(producer, b"x" * 100_000) == 1
        commit(consumer, 1)
        assert fill(producer, b"x" * 100_000) == 1


@pytest.mark.parametrize("durability", ["memory", "replicated"])
def test_bytes_are_counted_over_many_segments_also_those_that_are_on_disk_alone(
    shared_bus: Path, durability: str
):
    limit, value = 6 << 20, b"x" * 100_000
    frame = 100_096
    limited_topic(
        shared_bus,
        max_lag_bytes=limit,
        durability=durability,
        hot_bytes=(4 if durability == "replicated" else 32) << 20,
        segment_bytes=1 << 20,
    )
    with reader(shared_bus) as consumer, sender(shared_bus, 50) as producer:
        count = fill(producer, value)
        assert limit <= count * frame <= limit + frame + count * 64
        for offset in (1, 20, 50):
            commit(consumer, offset)
            before, count = count, count + fill(producer, value)
            lag = (count - offset) * frame
            assert limit <= lag + 64 * count
            assert lag <= limit + frame
            assert count > before


def test_the_slowest_of_the_groups_that_count_decides(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10, groups="slow, fast")
    with (
        reader(shared_bus, "slow") as slow,
        reader(shared_bus, "fast") as fast,
        sender(shared_bus) as producer,
    ):
        assert fill(producer) == 10
        commit(fast, 10)
        with pytest.raises(BackpressureError, match="'slow' lags 10 records") as raised:
            producer.send("t", b"", partition=0)
        assert "'fast'" not in str(raised.value)
        commit(slow, 7)
        assert fill(producer) == 7


def test_a_group_that_is_not_named_holds_nobody_up(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10)
    with (
        reader(shared_bus, "other"),
        reader(shared_bus) as consumer,
        sender(shared_bus) as producer,
    ):
        assert fill(producer) == 10
        commit(consumer, 10)
        assert fill(producer) == 10


def test_partitions_are_limited_one_by_one(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=5, partitions=2)
    with reader(shared_bus) as consumer, sender(shared_bus) as producer:
        assert [fill(producer, partition=n) for n in (0, 1)] == [5, 5]
        commit(consumer, 2, partition=1)
        assert [fill(producer, partition=n) for n in (0, 1)] == [0, 2]


def test_a_group_that_does_not_exist_counts_for_nothing_until_it_is_made(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10)
    with sender(shared_bus) as producer:
        for _ in range(50):
            producer.send("t", b"")
        with reader(shared_bus) as consumer:
            assert fill(producer) == 0
            commit(consumer, 50)
            assert fill(producer) == 10
        with Admin(shared_bus) as admin:
            admin.delete_groups(["g"])
        for _ in range(50):
            producer.send("t", b"")


def test_what_is_below_the_log_start_is_no_lag(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10, durability="replicated")
    with reader(shared_bus), sender(shared_bus) as producer, Admin(shared_bus) as admin:
        assert fill(producer) == 10
        admin.delete_records({T0: 6})
        assert fill(producer) == 6


def test_a_group_that_begins_at_the_end_says_where_it_begins(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10)
    with sender(shared_bus) as producer:
        for _ in range(50):
            producer.send("t", b"")
        with reader(shared_bus, auto_offset_reset="latest") as consumer:
            assert consumer.committed(T0) == 50
            assert fill(producer) == 10


def test_a_group_that_is_set_back_holds_producers_up_at_once(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=100)
    with sender(shared_bus) as producer:
        with reader(shared_bus) as consumer:
            assert fill(producer) == 100
            commit(consumer, 100)
            assert fill(producer, most=5001) == 100
            commit(consumer, 150)
            producer.send("t", b"")  # the gate is open now
            commit(consumer, 20)
            assert fill(producer) == 0
        with Admin(shared_bus) as admin:
            admin.alter_group_offsets("g", {T0: 200})
            producer.send("t", b"")
            admin.alter_group_offsets("g", {T0: 0})
            assert fill(producer) == 0
            admin.delete_group_offsets("g", [T0])
            assert fill(producer) == 0


def test_both_limits_count_and_the_nearer_one_decides(shared_bus: Path):
    limited_topic(shared_bus, max_lag_records=10, max_lag_bytes=1 << 20)
    with reader(shared_bus), sender(shared_bus) as producer:
        assert fill(producer) == 10
        alter(shared_bus, max_lag_records=1000, max_lag_bytes=20 * FRAME_BYTES)
        assert fill(producer) == 10
        with pytest.raises(BackpressureError, match=r"20 records .* and 1760 bytes"):
            producer.send("t", b"")
