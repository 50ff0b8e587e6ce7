"""Clients that are killed between making their doorbell's file and filling it leave nothing.

The kernel kills at that very call: the file may not grow by a byte (RLIMIT_FSIZE), so the first
write to it is a SIGXFSZ.
"""

import resource
import signal
from pathlib import Path

import pytest

import bus
from tests.broker.rig import kill, status
from tests.buses import SHARED_MEMORY, bus_ids
from tests.children import Fork, Report
from tests.waiting import eventually


def doorbells(path: Path) -> dict[str, int]:
    """The files of all doorbells of a bus, and how many bytes each has."""
    (bus_id,) = bus_ids(path)
    return {one.name: one.stat().st_size for one in SHARED_MEMORY.glob(f"sem.bus-{bus_id}-*")}


@pytest.fixture
def half_made(bus_dir: Path, broker: bus.Broker, fork: Fork) -> str:
    """The name of an empty doorbell whose maker is dead."""
    before = doorbells(bus_dir)

    def attach(_: Report) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        bus.Producer(bus_dir, autostart=False)

    assert fork(attach).wait() == -signal.SIGXFSZ
    made = {name: size for name, size in doorbells(bus_dir).items() if name not in before}
    assert list(made.values()) == [0], "it was killed between the two"
    return next(iter(made))


def test_the_next_client_takes_the_slot_and_removes_what_is_left(
    half_made: str, bus_dir: Path
) -> None:
    assert status(bus_dir)["clients"] == []
    with bus.Producer(bus_dir) as producer:
        assert half_made not in doorbells(bus_dir)
        assert 0 not in doorbells(bus_dir).values()
        assert producer.send("t", b"x").get(timeout=10).offset == 0
    assert status(bus_dir)["counters"]["client_reaped"] == 0, "it never was a client"


def test_a_stop_removes_what_is_left(half_made: str, bus_dir: Path, broker: bus.Broker) -> None:
    broker.stop()
    assert doorbells(bus_dir) == {}


def test_a_broker_that_is_killed_next_leaves_it_to_the_client_of_the_one_after(
    half_made: str, bus_dir: Path, broker: bus.Broker
) -> None:
    kill(broker.pid)
    broker.stop()
    with bus.Broker(bus_dir), bus.Producer(bus_dir, autostart=False) as producer:
        assert producer.send("t", b"x").get(timeout=20).offset == 0
        eventually(lambda: half_made not in doorbells(bus_dir), what="it is gone")
    assert doorbells(bus_dir) == {}
