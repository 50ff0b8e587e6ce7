"""An append that lands in a hot directory after the bus has left it is not reported as stored.

Between the choice of its partition and the append a producer may be slow, or stopped, for as long
as it takes to copy what the directory held.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import bus
from bus.directory import BusDirectory
from bus.errors import OutcomeUnknownError
from bus.native.core import LAYOUT
from tests.broker.rig import status
from tests.security.test_salvage import hot_id, moved, read_all, write_over
from tests.waiting import eventually


class SlowSerializer:
    """Values as they are; `meanwhile` happens once, when the partition is chosen already."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, value: bytes) -> bytes:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return value


def spoil_another_page_and_start_a_broker(path: Path) -> None:
    """The broker that starts cannot adopt the directory, and leaves it at once."""
    before = hot_id(path)
    pid = status(path)["broker"]["pid"]
    page = next(Path(status(path)["hot_dir"]).glob("*-1.ctl"))
    os.kill(pid, signal.SIGKILL)
    write_over(page, size=64)
    with bus.Admin(path):
        eventually(lambda: moved(path, before), 20.0, "the bus moved")


@pytest.fixture
def two_partitions(bus_dir: Path) -> Path:
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", num_partitions=2)])
    return bus_dir


@pytest.mark.parametrize("many", [False, True])
def test_a_record_for_a_directory_that_was_left_fails_instead_of_being_lost(
    two_partitions: Path, many: bool
) -> None:
    path, serializer = two_partitions, SlowSerializer()
    with bus.Producer(path, acks=1, value_serializer=serializer) as producer:
        producer.send("t", b"before", partition=0).get(timeout=10)
        serializer.meanwhile = lambda: spoil_another_page_and_start_a_broker(path)
        with pytest.raises(OutcomeUnknownError, match="may or may not"):
            if many:
                producer.send_many("t", [b"late", b"later"], partition=0)
            else:
                producer.send("t", b"late", partition=0).get(timeout=10)
        producer.send("t", b"after", partition=0).get(timeout=10)
    assert read_all(path) == [b"before", b"after"]


def test_the_word_that_says_so_is_looked_at_behind_each_append(two_partitions: Path) -> None:
    """Also when the broker dies over the move, so that the directory is adopted in the end."""
    path, serializer = two_partitions, SlowSerializer()

    def announce() -> None:
        hot = Path(status(path)["hot_dir"])
        with BusDirectory.open(path) as directory, (hot / "bus.ctl").open("r+b") as control:
            assert directory.read_runtime() is not None
            control.seek(LAYOUT["bus_control.stopping"])
            control.write((2).to_bytes(4, "little"))

    with bus.Producer(path, acks=1, value_serializer=serializer) as producer:
        producer.send("t", b"before", partition=0).get(timeout=10)
        serializer.meanwhile = announce
        with pytest.raises(OutcomeUnknownError):
            producer.send("t", b"late", partition=0)
        os.kill(status(path)["broker"]["pid"], signal.SIGKILL)
    assert read_all(path) == [b"before", b"late"], "the directory was not left: it is there"
