"""A control page that was written over under a dead broker is not believed by the next one.

By such a page it would sweep away the files that have what no replica had copied.
"""

import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import bus
from bus.directory import BusDirectory
from bus.native.core import LAYOUT
from tests.broker.rig import kill_broker, status
from tests.handles.blocked import replica_pid
from tests.security.test_salvage import hot_file, hot_id, moved, read_all, write_over
from tests.security.test_spoiled_locks import hold_in_the_name_of_nobody
from tests.waiting import eventually

_LOCK = LAYOUT["bus_partition.lock"]
_NUMBERS = LAYOUT["bus_partition.ring_numbers"]
_RING = LAYOUT["bus_partition.ring"]
_SLOT_BYTES = LAYOUT["sizeof.bus_ring_slot"]
_SLOTS = LAYOUT["BUS_RING_SLOTS"]
#: Records of a third of a segment: the ring has several.
VALUES = [b"%d " % number * 150_000 for number in range(10)]


def ring_of(page: Path) -> dict[int, int]:
    """By segment number: its slot."""
    data = page.read_bytes()
    numbers = struct.unpack_from(f"<{_SLOTS}Q", data, _NUMBERS)
    return {number: slot for slot, number in enumerate(numbers) if number}


def store(page: Path, at: int, word: int) -> None:
    with page.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<Q", word))


def zero_the_ring(page: Path) -> None:
    with page.open("r+b") as file:
        file.seek(_RING)
        file.write(bytes(_SLOTS * _SLOT_BYTES))


def forget(which: Callable[[dict[int, int]], int]) -> Callable[[Path], None]:
    def forget_segment(page: Path) -> None:
        ring = ring_of(page)
        store(page, _NUMBERS + 8 * ring[which(ring)], 0)

    return forget_segment


def name_another_file(page: Path) -> None:
    ring = ring_of(page)
    store(page, _RING + ring[max(ring)] * _SLOT_BYTES, 12345)


HARM: dict[str, Callable[[Path], None]] = {
    "the ring is zero": zero_the_ring,
    "the oldest segment is not in it": forget(min),
    "one in the middle is not in it": forget(lambda ring: min(ring) + 1),
    "the newest segment is not in it": forget(max),
    "a segment is in another file": name_another_file,
    "the lock is of another kind": lambda page: write_over(page, size=64, at=_LOCK),
    "the lock is held by nobody": hold_in_the_name_of_nobody,
}


@pytest.mark.parametrize("harm", HARM)
def test_what_only_ram_has_outlives_a_page_that_contradicts_itself(
    bus_dir: Path, broker: bus.Broker, harm: str
) -> None:
    with bus.Admin(bus_dir) as admin:
        settings = {"segment.bytes": str(1 << 20), "hot.bytes": str(8 << 20)}
        admin.create_topics([bus.NewTopic("t", 1, topic_configs=settings)])
    with bus.Producer(bus_dir, acks=1, autostart=False) as producer:
        producer.partitions_for("t")
        pid = replica_pid(bus_dir)
        os.kill(pid, signal.SIGSTOP)
        for one in VALUES:
            producer.send("t", one).get(timeout=10)
        kill_broker(broker)
        os.kill(pid, signal.SIGKILL)
    (page,) = hot_file_at_rest(bus_dir)
    assert len(ring_of(page)) > 2
    HARM[harm](page)
    with bus.Broker(bus_dir):
        assert read_all(bus_dir) == VALUES
        with bus.Producer(bus_dir) as producer:
            assert producer.send("t", b"after").get(timeout=10).offset >= len(VALUES)


def hot_file_at_rest(path: Path) -> list[Path]:
    """Of the only partition: nobody answers who could be asked."""
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
    assert runtime is not None
    return list(Path(runtime.hot_dir).glob("*-0.ctl"))


@pytest.mark.parametrize("harm", ["the lock is of another kind", "the lock is held by nobody"])
def test_a_lock_that_nobody_can_have_makes_a_running_bus_move(
    bus_dir: Path, broker: bus.Broker, harm: str
) -> None:
    with bus.Producer(bus_dir, max_block_ms=30_000) as producer:
        producer.send("t", b"before").get(timeout=10)
        before = hot_id(bus_dir)
        HARM[harm](hot_file(bus_dir, "-0.ctl")[0])
        assert producer.send("t", b"after").get(timeout=10).offset > 0
        assert eventually(lambda: moved(bus_dir, before), 1.0)
    assert read_all(bus_dir) == [b"before", b"after"]
    assert status(bus_dir)["counters"]["damage_found"] >= 1
