"""A lock that was written over holds nobody up for longer than the broker needs to notice."""

import struct
from pathlib import Path

import pytest

import bus
from bus.native.core import LAYOUT
from tests.security.test_salvage import hot_file, hot_id, moved, read_all, write_over
from tests.waiting import eventually

_LOCK = LAYOUT["bus_partition.lock"]
_MAX_PID = 4_194_304


def hold_in_the_name_of_nobody(page: Path) -> None:
    """The futex word of a robust mutex says that a thread has it which does not exist."""
    with page.open("r+b") as file:
        file.seek(_LOCK)
        file.write(struct.pack("<I", _MAX_PID - 1))


@pytest.mark.parametrize("what", ["held by nobody", "another kind"])
def test_a_sender_goes_on_in_the_next_hot_directory(
    bus_dir: Path, broker: bus.Broker, what: str
) -> None:
    with bus.Producer(bus_dir, max_block_ms=30_000) as producer:
        producer.send("t", b"before").get(timeout=10)
        before = hot_id(bus_dir)
        page = hot_file(bus_dir, "-0.ctl")[0]
        if what == "held by nobody":
            hold_in_the_name_of_nobody(page)
        else:
            write_over(page, size=64, at=_LOCK)
        write_over(page, size=64)  # what the broker notices
        assert producer.send("t", b"after").get(timeout=10).offset > 0
        assert eventually(lambda: moved(bus_dir, before), 1.0)
    assert read_all(bus_dir) == [b"before", b"after"]
