"""The next start cleans what is its own, leaves what is not, and signals no stranger.

The default run plants all kinds at once; `tox -e resources` each alone as well.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from tests.broker.rig import is_alive, kill, status
from tests.buses import bus_processes
from tests.faults.witness import read_all
from tests.resources.leftovers import KINDS, OWN, Plant, Scene
from tests.waiting import eventually

WHOLE = os.environ.get("BUS_RESOURCE_SAMPLES") == "0"
EVERY = int(os.environ.get("BUS_RESOURCE_EVERY", "1"))
ALL = list(KINDS)
CHOICES = [ALL, *([one] for one in ALL[::EVERY])] if WHOLE else [ALL]
#: blocks all signals, and says which ones came until its input ends
INNOCENT = """
import signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("blocked", flush=True)
sys.stdin.read()
print(sorted(int(one) for one in signal.sigpending()), flush=True)
"""


@contextmanager
def innocent() -> Iterator[int]:
    """A process that has nothing to do with the bus, and gets no signal."""
    command = [sys.executable, "-c", INNOCENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "blocked\n"
            yield process.pid
            assert is_alive(process.pid), "an innocent process was killed"
            process.stdin.close()
            assert process.stdout.readline() == "[]\n", "an innocent process was signalled"
        finally:
            process.kill()


def killed(path: Path) -> None:
    """A bus with three records, all of whose processes are killed."""
    with bus.Broker(path) as broker:
        make_records(path)
        pids = [one.pid for one in bus_processes(path) if one.pid != broker.pid]
        for pid in [broker.pid, *pids]:
            kill(pid)
        broker.stop()


def stopped(path: Path) -> None:
    with bus.Broker(path):
        make_records(path)


def cut_short(path: Path) -> None:
    """Killed while the hot directory was being removed: its control file goes first."""
    killed(path)
    (hot,) = Path("/dev/shm").glob(f"bus-{os.geteuid()}-{Scene(path, 0).bus_id}")
    (hot / "bus.ctl").unlink()


def make_records(path: Path) -> None:
    with bus.Producer(path, autostart=False) as producer:
        for number in range(3):
            producer.send("t", b"%d" % number).get(timeout=20)
        with bus.Consumer(
            "t", bootstrap_servers=path, group_id="g", auto_offset_reset="earliest"
        ) as consumer:
            consumer.poll(timeout_ms=10_000)
            consumer.commit()


@pytest.mark.parametrize("chosen", CHOICES, ids=lambda kinds: "all" if len(kinds) > 1 else kinds[0])
@pytest.mark.parametrize("how", [killed, stopped, cut_short])
def test_the_next_start_removes_its_own_leftovers_and_touches_nothing_else(
    bus_dir: Path, how: Callable[[Path], None], chosen: list[str]
) -> None:
    how(bus_dir)
    foreign: list[Path] = []
    own: list[Path] = []
    try:
        with innocent() as pid:
            for name in chosen:
                whose, plant = KINDS[name]
                scene = Scene(bus_dir, pid)
                (own if whose == OWN else foreign).extend(_planted(scene, plant))
            before = {path: _content(path) for path in foreign}
            with bus.Broker(bus_dir):
                eventually(lambda: not still_there(own), what="own leftovers are gone")
                assert [one.value for one in read_all(bus_dir, ["t"])["t", 0]] == [b"0", b"1", b"2"]
                with bus.Producer(bus_dir, autostart=False) as producer:
                    producer.send("t", b"3").get(timeout=20)
                    producer.send("new", b"0").get(timeout=20)
                assert len(status(bus_dir)["replicas"]) == 2
            assert [path for path in own if path.exists()] == []
            assert {path: _content(path) for path in foreign} == before
    finally:
        for path in [*foreign, *own]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)


def still_there(own: list[Path]) -> list[Path]:
    return [path for path in own if path.exists() and path.name != "broker.sock"]


def _planted(scene: Scene, plant: Plant) -> list[Path]:
    plant(scene)
    return scene.planted


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def test_a_replica_whose_pid_was_reused_is_not_looked_for(bus_dir: Path) -> None:
    """The pid in the lock of a replica that is gone, of a hot log that is gone: nobody's."""
    killed(bus_dir)
    with innocent() as pid:
        (bus_dir / "topics/t/0/replica.lock").write_bytes(b"%d" % pid)
        (Path("/dev/shm") / f"bus-{os.geteuid()}-{Scene(bus_dir, 0).bus_id}" / "bus.ctl").unlink()
        with bus.Broker(bus_dir) as second:
            os.kill(second.pid, signal.SIGKILL)
            second.stop()
    eventually(lambda: not is_alive(pid))
