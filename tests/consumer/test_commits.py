"""Commits: what a group keeps, when it is kept by itself, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import InvalidGroupIdError, OffsetOutOfRangeError
from bus.structs import OffsetAndMetadata
from tests.consumer.rig import T0, reader


def test_commits_are_kept_per_group_with_their_metadata(
    topic: Path, producer: bus.Producer
) -> None:
    producer.send_many("t", [b"x"] * 10, partition=0)
    with reader(topic, "t", group_id="g", enable_auto_commit=False) as consumer:
        assert consumer.committed(T0) is None
        consumer.poll(0, max_records=4)
        consumer.commit()
        assert consumer.committed(T0) == 4
        consumer.commit({T0: OffsetAndMetadata(7, "note")})
        assert consumer.committed(T0, metadata=True) == OffsetAndMetadata(7, "note")
        outcome: list[Any] = []
        consumer.commit_async(callback=lambda *told: outcome.append(told))
        assert outcome[0][0][T0].offset == 4
        assert outcome[0][1] is None
    with reader(topic, "t", group_id="g") as again, reader(topic, "t", group_id="h") as other:
        assert again.position(T0) == 4
        assert other.position(T0) == 0
        with pytest.raises(OffsetOutOfRangeError, match="ends at 10"):
            other.commit({T0: OffsetAndMetadata(11)})
    with reader(topic, "t") as alone, pytest.raises(InvalidGroupIdError, match="group_id"):
        alone.commit()


def test_closing_commits_what_was_read_unless_told_not_to(
    topic: Path, producer: bus.Producer
) -> None:
    producer.send_many("t", [b"x"] * 10, partition=0)
    consumer = reader(topic, "t", group_id="g")
    consumer.poll(0, max_records=3)
    consumer.close()
    consumer = reader(topic, "t", group_id="g")
    assert consumer.position(T0) == 3
    consumer.poll(0, max_records=3)
    consumer.close(autocommit=False)
    with reader(topic, "t", group_id="g") as last:
        assert last.position(T0) == 3


def test_a_seek_beyond_the_end_is_not_committed(topic: Path) -> None:
    with reader(topic, "t", group_id="g") as consumer:
        consumer.seek(T0, 1000)
    with reader(topic, "t", group_id="g") as again:
        assert again.committed(T0) == 0


def test_an_automatic_commit_covers_only_what_the_program_is_done_with(
    topic: Path, producer: bus.Producer
) -> None:
    producer.send_many("t", [b"x"] * 10, partition=0)
    with (
        reader(topic, "t", group_id="g", auto_commit_interval_ms=0) as consumer,
        reader(topic, group_id="g") as observer,
    ):
        consumer.poll(0, max_records=4)
        assert observer.committed(T0) in (None, 0)
        consumer.poll(0, max_records=2)
        assert observer.committed(T0) == 4
