"""Fixtures: every bus that a test uses is stopped, checked and looked for when the test ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# How long an example takes is a matter of what else runs.
settings.register_profile("bus", deadline=None)
settings.load_profile("bus")

if TYPE_CHECKING:
    from bus.broker import Broker
    from tests.children import Fork


@pytest.fixture
def bus_dir(tmp_path: Path) -> Iterator[Path]:
    """A fresh bus directory, not made yet: the first client or broker makes it.

    When the test ends, the bus is stopped, `bus check` must find no damage, and no process,
    semaphore or shared-memory object of it may be left.
    """
    from tests.buses import end_bus

    path = tmp_path / "bus"
    yield path
    if path.exists():
        wrong = end_bus(path)
        assert not wrong, "\n".join(wrong)


@pytest.fixture
def broker(bus_dir: Path) -> Iterator["Broker"]:
    """A running broker for `bus_dir`."""
    from bus.broker import Broker

    with Broker(bus_dir) as running:
        yield running


@pytest.fixture
def fork(bus_dir: Path) -> Iterator["Fork"]:
    """Forks child processes that end before the bus does: see tests/children.py."""
    from tests.children import family

    with family() as forking:
        yield forking
