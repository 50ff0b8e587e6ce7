"""A high watermark that the replica did not publish acknowledges nothing."""

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from bus.client import Client
from bus.errors import BusTimeoutError
from bus.liveness import ROLE_ADMIN
from bus.native.core import LAYOUT
from tests.handles.blocked import replica_pid
from tests.waiting import eventually

_WATERMARK = LAYOUT["bus_partition.high_watermark"]
_MARKS = LAYOUT["bus_partition.marks"]


@pytest.fixture
def stopped_replica(bus_dir: Path, broker: bus.Broker) -> Iterator[int]:
    """Topic "t" with one durable record and a replica that does nothing meanwhile."""
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"durable").get(timeout=10)
    pid = replica_pid(bus_dir, "t")
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


def control_page(path: Path) -> Path:
    with Client.connect(path, role=ROLE_ADMIN, client_id="test") as client:
        topic = client.topic("t")
        return Path(client.call("status")["hot_dir"]) / f"{topic.id}-0.ctl"


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("marks", [None, b"\xff" * 32, struct.pack("<QQQQ", 9, 9, 9, 9)])
def test_a_stray_write_into_the_watermark_acknowledges_nothing(
    bus_dir: Path, stopped_replica: int, marks: bytes | None
) -> None:
    with bus.Producer(bus_dir) as producer:
        future = producer.send("t", b"not durable yet")
        page = control_page(bus_dir)
        overwrite(page, _WATERMARK, struct.pack("<Q", 1 << 60))
        if marks is not None:
            overwrite(page, _MARKS, marks)
        with pytest.raises(BusTimeoutError):
            future.get(timeout=0.3)
        assert not future.is_done
        os.kill(stopped_replica, signal.SIGCONT)
        assert future.get(timeout=10).offset == 1
    assert eventually(lambda: watermark(page) == 2, 5.0, "the word is put right")


def watermark(page: Path) -> int:
    return int(struct.unpack_from("<Q", page.read_bytes(), _WATERMARK)[0])
