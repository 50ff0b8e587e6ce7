"""After a reboot a log goes on above a gap in its offsets; readers cross it."""

import shutil
from pathlib import Path

import bus
from bus.directory import BusDirectory
from tests.faults.processes import kill, processes

COUNT = 5


def reboot(path: Path) -> None:
    """Every process of the bus dies, and its memory is gone."""
    while alive := [process for _, process in processes(path)]:
        kill(alive)
    with BusDirectory.open(path) as directory:
        shutil.rmtree(directory.default_hot_path())


def fill(path: Path, text: str) -> list[int]:
    with bus.Producer(path) as producer:
        futures = [producer.send("t", text.encode()) for _ in range(COUNT)]
        return [future.get(timeout=20).offset for future in futures]


def consumer_from_the_beginning(path: Path) -> bus.Consumer:
    return bus.Consumer("t", bootstrap_servers=path, auto_offset_reset="earliest")


def poll(consumer: bus.Consumer, timeout_ms: float = 10_000) -> list[int]:
    return [one.offset for batch in consumer.poll(timeout_ms).values() for one in batch]


def test_a_reader_waits_behind_a_gap_with_nothing_behind_it_yet(bus_dir: Path) -> None:
    before = fill(bus_dir, "before")
    reboot(bus_dir)
    with consumer_from_the_beginning(bus_dir) as consumer:
        assert poll(consumer) == before
        assert poll(consumer, timeout_ms=0) == []
        [partition] = consumer.assignment()
        assert consumer.position(partition) == consumer.end_offsets([partition])[partition]
        after = fill(bus_dir, "after")
        assert after[0] > before[-1] + 1
        assert poll(consumer) == after


def test_a_reader_crosses_several_gaps_some_with_no_record_between_them(bus_dir: Path) -> None:
    expected = fill(bus_dir, "first")
    reboot(bus_dir)
    with bus.Admin(bus_dir):
        reboot(bus_dir)
    expected += fill(bus_dir, "second")
    reboot(bus_dir)
    with consumer_from_the_beginning(bus_dir) as consumer:
        found: list[int] = []
        while len(found) < len(expected):
            polled = poll(consumer)
            assert polled, f"after {found}"
            found += polled
        assert found == expected
        assert poll(consumer, timeout_ms=0) == []
