"""One bus for all tests of a module that do it no harm; each of them finds it empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.admin import Admin
from bus.broker import Broker
from tests.buses import end_bus


@pytest.fixture(scope="module")
def lasting_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bus with a broker; it ends as the fixture `bus_dir` does."""
    path = tmp_path_factory.mktemp("lag") / "bus"
    with Broker(path):
        yield path
    wrong = end_bus(path)
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def shared_bus(lasting_bus: Path) -> Iterator[Path]:
    """The same, without what the last test left."""
    yield lasting_bus
    with Admin(lasting_bus) as admin:
        admin.delete_topics(admin.list_topics())
        admin.delete_groups([group["group_id"] for group in admin.list_groups()])
