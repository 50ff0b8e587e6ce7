"""Two threads of one producer that need the same new file at the same time."""

import threading
from pathlib import Path
from typing import Any

import pytest

import bus
from bus import files
from bus.broker import Broker
from tests.broker.rig import create_topic


def mapped_segments() -> list[str]:
    """Address ranges of the hot segment files that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[0] for line in lines if line.endswith(".seg") and " rw-s " in line]


def test_a_thread_that_comes_second_does_not_unmap_what_the_first_one_writes_to(
    bus_dir: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(bus_dir)
    opening, go_on = threading.Event(), threading.Event()
    open_own = files.open_own
    slow: list[int] = []

    def open_slowly(name: str | Path, flags: int, **how: Any) -> int:
        fd = open_own(name, flags, **how)
        if str(name).endswith(".seg") and threading.get_ident() in slow:
            opening.set()
            assert go_on.wait(20)
        return fd

    monkeypatch.setattr(files, "open_own", open_slowly)
    offsets: list[int] = []

    def send_slowly(producer: bus.Producer) -> None:
        slow.append(threading.get_ident())
        offsets.append(producer.send("t", b"second").get(20).offset)

    with bus.Producer(bus_dir) as producer:
        producer.partitions_for("t")
        second = threading.Thread(target=send_slowly, args=(producer,))
        second.start()
        assert opening.wait(20)
        assert producer.send("t", b"first").get(20).offset == 0
        before = mapped_segments()
        go_on.set()
        second.join(20)
        assert offsets == [1]
        assert before
        assert mapped_segments() == before
