"""The processes that belong to a bus directory, by their roles, and the end of some of them."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

from tests.broker.rig import is_alive
from tests.waiting import eventually

#: How long a killed process may take to be gone, in seconds.
GONE_S = 10.0
BROKER, REPLICA, WORKER, MAIN = "broker", "replica", "worker", "main"
#: forked by the demo, and not yet what it will be
STARTING = "starting"
PRODUCER, CONSUMER = "producer", "consumer"
REPLAYER, CHURNER, OBSERVER = "replayer", "churner", "observer"

_MODULES = {
    "bus.demo.worker": WORKER,
    "tests.soak.producer": PRODUCER,
    "tests.soak.consumer": CONSUMER,
    "tests.soak.replayer": REPLAYER,
    "tests.soak.churner": CHURNER,
    "tests.soak.observer": OBSERVER,
}


def _role(words: list[str], name: str) -> str:
    if any("bus.supervisor" in word for word in words):
        return REPLICA if name == "bus-replica" else BROKER
    return next((role for module, role in _MODULES.items() if module in words), MAIN)


def processes(path: Path) -> list[tuple[str, psutil.Process]]:
    """Every live process with this directory among its arguments, and what it is there."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            words = process.cmdline()
            if str(path) in words:
                found.append((_role(words, process.name()), process))
    return found


def kill(victims: Iterable[psutil.Process]) -> list[int]:
    """SIGKILL to all of them, then their ends; the pids of those that lived.

    A zombie counts as gone: its parent may take its time.
    """
    killed = []
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            killed.append(process.pid)
    eventually(lambda: not any(map(is_alive, killed)), GONE_S, f"the end of {killed}")
    return killed
