"""A broker that is long in opening its partitions is waited for as long as it gives signs."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

import bus
from bus import broker as broker_module
from bus import daemon
from bus.config import BrokerConfig
from bus.daemon import Starter
from bus.directory import BusDirectory
from bus.errors import BusTimeoutError
from bus.supervisor import Supervisor
from tests.children import Fork, Report

#: how long a silent broker is waited for here, and in how many partitions' time it is ready
PATIENCE_S, PARTITIONS = 0.5, 8


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def opens_slowly(writer: int) -> None:
    """A broker at work: a partition takes it most of the time that its caller is patient for."""
    with patch.object(daemon, "SIGN_PAUSE_S", 0):
        starter = Starter(writer)
        for _ in range(PARTITIONS):
            threading.Event().wait(PATIENCE_S / 4)
            starter.progress()
        starter.tell({"ready": True})


def test_a_broker_at_work_is_waited_for_longer_than_a_silent_one(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    work = threading.Thread(target=opens_slowly, args=(writer,))
    work.start()
    try:
        line = broker_module._read_line(reader, PATIENCE_S)
    finally:
        work.join()
    assert json.loads(line) == {"ready": True}


def test_a_silent_broker_is_not_waited_for_longer(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    try:
        with pytest.raises(BusTimeoutError, match="neither ready nor at work for"):
            broker_module._read_line(reader, PATIENCE_S)
    finally:
        os.close(writer)


def test_a_start_gives_a_sign_at_each_partition_that_it_opens(bus_dir: Path, fork: Fork) -> None:
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", 3), bus.NewTopic("u", 2)])

    def start(report: Report) -> None:
        signs: list[int] = []
        with BusDirectory.open(bus_dir) as directory:
            supervisor = Supervisor(directory, BrokerConfig(), progress=lambda: signs.append(1))
            report(len(signs))
            supervisor._begin_stop()
            supervisor.run()

    child = fork(start)
    assert child.next() == 5
    assert child.wait() == 0
