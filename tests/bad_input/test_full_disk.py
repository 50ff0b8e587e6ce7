"""A full disk: nothing is acknowledged that is not on it; with room again, the bus goes on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from bus.errors import BusTimeoutError, NoSpaceError
from tests.bad_input.places import fill, small_disk
from tests.buses import end_bus

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    with small_disk(tmp_path / "disk", "12m") as path:
        yield path
        if (path / "bus").exists():
            assert end_bus(path / "bus") == []


def test_a_bus_is_not_made_on_a_full_disk(disk: Path) -> None:
    ballast = fill(disk)
    for make in (lambda: bus.Broker(disk / "bus").start(), lambda: bus.Producer(disk / "bus")):
        with pytest.raises(NoSpaceError, match=f"no space left for {disk}/bus.*free some"):
            make()
    ballast.unlink()
    with bus.Broker(disk / "bus"), bus.Producer(disk / "bus") as producer:
        assert producer.send("t", b"x").get(timeout=10).offset == 0


def test_a_topic_is_not_made_on_a_full_disk_and_can_be_made_later(disk: Path) -> None:
    with bus.Broker(disk / "bus"), bus.Admin(disk / "bus") as admin:
        ballast = fill(disk)
        with pytest.raises(NoSpaceError, match=rf"no space left for {disk}/bus/.*free some"):
            admin.create_topics([bus.NewTopic("t")])
        with bus.Producer(disk / "bus") as producer:
            with pytest.raises(NoSpaceError, match="free some"):
                producer.send("t", b"x")
            assert admin.list_topics() == []
            ballast.unlink()
            assert producer.send("t", b"x").get(timeout=10).offset == 0


def test_records_that_a_full_disk_cannot_take_are_not_acknowledged_until_there_is_room(
    disk: Path,
) -> None:
    sent = [os.urandom(64 << 10) for _ in range(96)]  # 6 MiB: several durable segments
    with bus.Broker(disk / "bus"), bus.Producer(disk / "bus") as producer:
        producer.send("t", sent[0]).get(timeout=10)
        ballast = fill(disk)
        futures = [producer.send("t", value) for value in sent[1:]]
        with pytest.raises(BusTimeoutError, match=r"offset 95 is not durable .*replica pid \d+"):
            futures[-1].get(timeout=0.3)
        with pytest.raises(BusTimeoutError):
            producer.flush(timeout=0.1)
        ballast.unlink()
        assert futures[-1].get(timeout=20).offset == len(sent) - 1
        producer.flush(timeout=10)
    assert values(disk / "bus") == sent


def test_a_full_disk_blocks_a_sender_with_an_error_that_names_the_replica(disk: Path) -> None:
    path = disk / "bus"
    value = bytes(256 << 10)
    with bus.Broker(path), bus.Admin(path) as admin:
        admin.create_topics([bus.NewTopic("t", topic_configs={"hot.bytes": str(4 * MIB)})])
        with bus.Producer(path, max_block_ms=400) as producer:
            producer.send("t", value).get(timeout=10)
            ballast = fill(disk)
            stored = 1
            with pytest.raises(BusTimeoutError, match=r"t-0 is full: replica pid \d+ is at offset"):
                for _ in range(64):
                    producer.send("t", value)
                    stored += 1
            ballast.unlink()
            assert producer.send("t", b"last").get(timeout=20).offset == stored
        assert [len(read) for read in values(path)] == [len(value)] * stored + [4]


def values(path: Path) -> list[bytes]:
    """All records of topic "t"."""
    with bus.Consumer(
        "t", bootstrap_servers=path, auto_offset_reset="earliest", consumer_timeout_ms=300
    ) as consumer:
        return [bytes(record.value) for record in consumer]


def test_a_full_hot_filesystem_blocks_a_sender_instead_of_killing_it(
    tmp_path: Path, bus_dir: Path
) -> None:
    with (
        small_disk(tmp_path / "hot", "24m") as hot,
        bus.Broker(bus_dir, hot_dir=hot) as broker,
        bus.Producer(bus_dir, max_block_ms=400) as producer,
    ):
        producer.send("t", b"x" * MIB).get(timeout=10)
        ballast = fill(hot)
        stored = 1
        named = rf"\(pid {broker.pid}\), which has only \d+ bytes left in {hot}.*: free some"
        with pytest.raises(BusTimeoutError, match=rf"t-0 waits for a new hot segment .*{named}"):
            for _ in range(64):
                producer.send("t", b"x" * MIB)
                stored += 1
        ballast.unlink()
        assert producer.send("t", b"last").get(timeout=20).offset == stored
        assert [len(read) for read in values(bus_dir)] == [MIB] * stored + [4]
