"""A real filesystem on a device that does not answer. `tox -e resources` runs it.

Every wait has an end: the device answers after a while even if nobody takes the gate away, and it
goes although somebody may still use it (tests/power/device.py).
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

import bus
from bus import broker as broker_module
from bus.errors import BrokerAlreadyRunningError, BusTimeoutError
from tests.broker.rig import is_alive, replica
from tests.buses import bus_processes, end_bus
from tests.faults.witness import read_all
from tests.power.device import logged_disk
from tests.power.realdisk import formatted, mounted
from tests.resources.test_hung_disk import SOON_S, hanging, soon
from tests.waiting import eventually

#: More than a disk that hangs is allowed to, so that the test can say what was wrong.
TIMEOUT_S = 180


@pytest.mark.timeout(TIMEOUT_S)
def test_a_replica_and_a_broker_that_not_even_a_kill_ends_hold_up_nobody_else(
    tmp_path: Path,
) -> None:
    """They sleep in state D, where no signal reaches them."""
    with (
        logged_disk(tmp_path, formatted(tmp_path)) as (disk, _),
        mounted(disk, tmp_path / "mnt") as where,
    ):
        path = where / "bus"
        try:
            _outlive_the_disk(path, tmp_path / "hanging")
        finally:
            (tmp_path / "hanging").unlink(missing_ok=True)
            wrong = end_bus(path)
            eventually(lambda: not bus_processes(path), what="the end of all processes")
        assert wrong == []


def _outlive_the_disk(path: Path, gate: Path) -> None:
    with (
        bus.Broker(path) as first,
        bus.Producer(path, acks=1, autostart=False) as producer,
        bus.Producer(path, autostart=False) as careful,
    ):
        careful.send("t", b"0").get(timeout=20)
        producer.send("t", b"1")
        pid = replica(path)["pid"]
        with hanging(gate):
            with pytest.raises(BusTimeoutError, match=rf"replica pid {pid} .*it has waited"):
                careful.send("t", b"2").get(timeout=1)
            os.kill(pid, signal.SIGKILL)
            with soon():
                assert producer.send("t", b"3").get(timeout=SOON_S).offset == 3
                assert is_alive(pid), "the kernel holds it"
            os.kill(first.pid, signal.SIGKILL)
            first.stop()
            with soon(), _in_a_hurry(), pytest.raises(BusTimeoutError, match="wait for its disk"):
                bus.Broker(path).start()
            with soon():
                assert producer.send("t", b"4").get(timeout=SOON_S).offset == 4
        eventually(lambda: not is_alive(pid), what="the end of the killed replica")
        eventually(lambda: _starts(path), 30, what="a broker that starts")
        with bus.Broker(path):
            assert careful.send("t", b"5").get(timeout=20).offset == 5
            log = read_all(path, ["t"])["t", 0]
            assert [one.value for one in log] == [b"%d" % number for number in range(6)]


@contextmanager
def _in_a_hurry() -> Iterator[None]:
    with (
        patch.object(broker_module, "START_TIMEOUT_S", 1.0),
        patch.object(broker_module, "ABORT_TIMEOUT_S", 0.3),
    ):
        yield


def _starts(path: Path) -> bool:
    """The broker that could not start may be on its way still."""
    try:
        with bus.Broker(path):
            return True
    except BrokerAlreadyRunningError:
        return False
