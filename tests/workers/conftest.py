"""Fixtures: executors of which nothing is left."""

from collections.abc import Iterator

import pytest

from tests.waiting import eventually
from tests.workers.executors import assert_gone
from tests.workers.rig import is_alive
from workers import Executor


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
