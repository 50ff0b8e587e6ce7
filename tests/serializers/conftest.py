"""Fixtures: one bus for all tests of a module that only need a topic."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.broker import Broker
from bus.config import BrokerConfig, TopicConfig
from tests.buses import end_bus


@pytest.fixture(scope="module")
def shared_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bus whose topics live in memory, where nothing else is said: no replica for each of them.

    Ends as the fixture `bus_dir` does: checked, and nothing left.
    """
    path = tmp_path_factory.mktemp("shared") / "bus"
    with Broker(path, config=BrokerConfig(topic=TopicConfig(durability="memory"))):
        yield path
    wrong = end_bus(path)
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"t{abs(hash(request.node.nodeid))}"
