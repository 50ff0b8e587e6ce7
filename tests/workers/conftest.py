"""Fixtures: executors of which nothing is left, and topics for pools."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.waiting import eventually
from tests.workers.executors import assert_gone
from tests.workers.pool_rig import Shop
from tests.workers.rig import is_alive
from workers import Executor

if TYPE_CHECKING:
    from bus.broker import Broker


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One of two workers for all tests that leave it as it was."""
    with Executor(2) as shared:
        yield shared
        pids = shared.pids()
    assert_gone(pids)


@pytest.fixture
def own() -> Iterator[Executor]:
    """One of one worker, for a test that is hard on it."""
    with Executor(1) as executor:
        yield executor
        pids = executor.pids()
    eventually(lambda: not any(map(is_alive, pids)), what=f"the end of workers {pids}")


@pytest.fixture
def shop(bus_dir: Path, broker: "Broker", tmp_path: Path) -> Shop:
    """A topic of a running bus, a group and a directory for files."""
    return Shop(bus_dir, "jobs", tmp_path)
