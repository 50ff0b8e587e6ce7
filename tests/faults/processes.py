"""The processes that belong to a bus directory, by their roles, and the end of some of them."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

#: How long a killed process may take to be gone, in seconds.
GONE_S = 10.0
BROKER, REPLICA, WORKER, MAIN = "broker", "replica", "worker", "main"


def _role(words: list[str], name: str) -> str:
    if any("bus.supervisor" in word for word in words):
        return REPLICA if name == "bus-replica" else BROKER
    if any("bus.demo.worker" in word for word in words):
        return WORKER
    return MAIN


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
    """SIGKILL to all of them first, then their ends; the pids of those that lived."""
    killed = []
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            killed.append(process)
    _, left = psutil.wait_procs(killed, timeout=GONE_S)
    # Somebody's unreaped child is as dead as can be.
    stuck = [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not stuck, f"not gone {GONE_S} s after kill -9: {stuck}"
    return [process.pid for process in killed]
