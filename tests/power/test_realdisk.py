"""A real bus on a real ext4, whose disk is cut off: all before the last flush is there, and any
part of what came then. The kernel replays its journal, the bus recovers."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.errors import ReplicaFailedError
from tests.power.device import logged_disk
from tests.power.places import memory_place
from tests.power.realdisk import cut, formatted, mounted, record, record_without_fdatasync

ROUNDS = 15
CUTS = 6
#: Without fdatasync, the kernel has not written the last records yet.
CONTROL_CUTS = 4


@pytest.fixture
def place() -> Iterator[Path]:
    logging.disable(logging.ERROR)
    with memory_place() as found:
        yield found
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(300)
def test_a_real_filesystem_keeps_what_was_acknowledged(place: Path) -> None:
    run = record(place, 1, ROUNDS)
    for number in range(CUTS):
        assert cut(run, place, number, 1) == [], f"cut {number} of seed 1"


@pytest.mark.timeout(300)
def test_a_replica_without_fdatasync_is_found_out(place: Path) -> None:
    run = record_without_fdatasync(place, 1, 100)
    wrong = [cut(run, place, number, 1, at_end=True) for number in range(CONTROL_CUTS)]
    assert all(wrong)


@pytest.mark.timeout(300)
def test_what_a_failing_disk_dropped_is_not_acknowledged(place: Path) -> None:
    base = formatted(place, "-O", "^has_journal")  # a journal would make it read-only at once
    with (
        logged_disk(place, base) as (disk, _log),
        mounted(disk, place / "mnt") as where,
        Broker(where / "bus"),
    ):
        producer = bus.Producer(where / "bus", autostart=False)
        producer.send("t", b"good").get(timeout=30)
        (place / "failing").touch()
        lost = producer.send("t", b"lost")
        with pytest.raises(ReplicaFailedError):
            lost.get(timeout=30)
        (place / "failing").unlink()
        with pytest.raises(ReplicaFailedError):  # nor later, when syncs return 0 again
            lost.get(timeout=1)
        with pytest.raises(ReplicaFailedError):
            producer.close()
