"""What a client may ask of the broker does no harm to others, however odd it is."""

import os
import signal
from pathlib import Path

import pytest

import bus
from bus.attachment import HotView
from bus.broker import Broker
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import IllegalStateError
from bus.liveness import ClientRow, client_rows
from tests.broker.rig import ask, create_topic, status
from tests.children import Fork, Report
from tests.waiting import eventually

MIB = 1 << 20


def test_no_connection_keeps_the_slots_of_others_from_being_reaped(
    bus_dir: Path, broker: Broker, fork: Fork
) -> None:
    def attach(report: Report) -> None:
        with bus.Producer(bus_dir, autostart=False):
            report("attached")
            signal.pause()

    with bus.Producer(bus_dir, autostart=False), bus.Producer(bus_dir, autostart=False):
        other = fork(attach)
        assert other.next() == "attached"
        rows = client_rows_of(bus_dir)
        (theirs,) = [one for one in rows if one.pid == other.pid]
        mine = [one for one in rows if one.pid == os.getpid()]
        hello(bus_dir, [(mine[0], None), (mine[0], None), (mine[1], "one of its own")])
        hello(bus_dir, [(theirs, f"not of pid {os.getpid()}")])
        other.send(signal.SIGKILL)
        eventually(lambda: other.pid not in [one["pid"] for one in status(bus_dir)["clients"]])


def hello(path: Path, rows: list[tuple[ClientRow, str | None]]) -> None:
    """Says hello for each row over one connection; None: it is taken, else what the error says."""
    with BusDirectory.open(path) as directory:
        client = ControlClient(directory, timeout_s=20.0)
        for row, error in rows:
            if error is None:
                client.call("hello", slot=row.slot, generation=row.generation)
                continue
            with pytest.raises(IllegalStateError, match=error):
                client.call("hello", slot=row.slot, generation=row.generation)
        client.close()


def client_rows_of(path: Path) -> list[ClientRow]:
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
        assert runtime is not None
        return client_rows(HotView(directory, runtime).control)


def test_no_request_makes_a_hot_file_that_no_record_can_need(bus_dir: Path, broker: Broker) -> None:
    limits = {"segment_bytes": 4 * MIB, "hot_bytes": 16 * MIB, "max_message_bytes": 2 * MIB}
    create_topic(bus_dir, **limits)
    hot_dir = Path(status(bus_dir)["hot_dir"])
    before = sorted(path.name for path in hot_dir.iterdir())
    for need in (1 << 40, 4 * MIB + 1, -1, 1 << 80):
        with pytest.raises(IllegalStateError, match="no producer waits"):
            ask(bus_dir, "tend", topic="t", partition=0, need=need)
    assert sorted(path.name for path in hot_dir.iterdir()) == before
    ask(bus_dir, "tend", topic="t", partition=0, need=4 * MIB)
    assert sorted(path.name for path in hot_dir.iterdir()) != before
