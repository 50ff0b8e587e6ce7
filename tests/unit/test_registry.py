"""Who is proven dead is reaped, at once when the socket ends and soon when the lock lags behind."""

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bus.directory import BusDirectory
from bus.liveness import ROLE_PRODUCER, ClientSlot
from bus.native.core import LAYOUT, Table
from bus.registry import LAST_DELAY_S, Registry

CONTROL_BYTES = LAYOUT["sizeof.bus_control"]


class Bench:
    """A registry over a client table without a broker, and who it has reaped."""

    def __init__(self, directory: BusDirectory) -> None:
        path = directory.path / "bus.ctl"
        path.write_bytes(bytes(CONTROL_BYTES))
        with path.open("r+b") as file:
            self.control = Table(file.fileno(), CONTROL_BYTES)
        self.control.store_release(LAYOUT["bus_control.bus_id"], directory.bus_id)
        self.control.store_release(LAYOUT["bus_control.next_generation"], 1)
        self.reaped: list[tuple[int, int]] = []
        hot = cast(Any, SimpleNamespace(control=self.control))
        self.registry = Registry(directory, hot, self._reap)

    def _reap(self, slot: int, generation: int) -> bool:
        self.reaped.append((slot, generation))
        return True


@pytest.fixture
def bench(tmp_path: Any) -> Iterator[tuple[Bench, ClientSlot]]:
    with BusDirectory.create(tmp_path / "bus") as directory:
        made = Bench(directory)
        slot = ClientSlot.take(directory, made.control, ROLE_PRODUCER, "test")
        made.registry.connected(slot.slot, slot.generation, os.getpid())
        yield made, slot
        slot.release()
        made.registry.close()


def die(slot: ClientSlot) -> None:
    """The lock goes, the slot stays taken: what a killed process leaves."""
    slot.after_fork()


def test_a_client_whose_socket_and_lock_are_gone_is_reaped_at_once(
    bench: tuple[Bench, ClientSlot],
) -> None:
    made, slot = bench
    client = (slot.slot, slot.generation)
    die(slot)
    made.registry.disconnected(*client)
    assert made.reaped == [client]
    assert made.registry.next_probe_s() is None


def test_a_lock_that_outlives_its_socket_is_looked_at_again_within_milliseconds(
    bench: tuple[Bench, ClientSlot],
) -> None:
    made, slot = bench
    client = (slot.slot, slot.generation)
    made.registry.disconnected(*client)
    assert made.reaped == [], "it lives: its lock is held"
    due = made.registry.next_probe_s()
    assert due is not None
    assert due - time.monotonic() < 0.01
    die(slot)
    made.registry.probe_dying(due)
    assert made.reaped == [client]
    assert made.registry.next_probe_s() is None


def test_who_closes_the_socket_and_lives_on_is_not_looked_at_for_ever(
    bench: tuple[Bench, ClientSlot],
) -> None:
    made, slot = bench
    made.registry.disconnected(slot.slot, slot.generation)
    waits = []
    while (due := made.registry.next_probe_s()) is not None:
        waits.append(due)
        assert len(waits) < 20
        made.registry.probe_dying(due)
    assert made.reaped == []
    assert waits[-1] - waits[0] < 4 * LAST_DELAY_S
