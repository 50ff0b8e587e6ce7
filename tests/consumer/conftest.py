"""A topic "t" of three partitions, and a producer for it."""

from pathlib import Path
from typing import Any

import pytest

import bus
from bus.broker import Broker
from tests.broker.rig import create_topic


@pytest.fixture
def topic(bus_dir: Path, broker: Broker) -> Path:
    create_topic(bus_dir, partitions=3)
    return bus_dir


@pytest.fixture
def producer(topic: Path) -> Any:
    with bus.Producer(topic) as made:
        yield made
