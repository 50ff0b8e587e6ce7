"""Bus directories for tests: how they end, and what must not be left of them."""

import contextlib
import json
import os
import signal
from pathlib import Path

import psutil

from bus.broker import Broker
from bus.check import check_directory
from bus.control import ControlClient
from bus.directory import BusDirectory
from bus.errors import BrokerNotRunningError, BusError
from tests.waiting import eventually

SHARED_MEMORY = Path("/dev/shm")
STOP_TIMEOUT_S = 20.0


def bus_ids(root: Path) -> set[str]:
    """The ids of all buses whose directories lie in or below `root`."""
    return {json.loads(file.read_text())["bus_id"] for file in root.rglob("bus.json")}


def shared_objects(ids: set[str]) -> list[str]:
    """Names in /dev/shm that belong to one of these buses: hot directories and doorbells."""
    names = sorted(entry.name for entry in SHARED_MEMORY.iterdir())
    return [name for name in names if any(bus_id in name for bus_id in ids)]


def bus_processes(root: Path) -> list[psutil.Process]:
    """Brokers and replicas of any bus at or below `root`, by their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word in ("bus.supervisor", "bus.gateway") for word in words) and any(
            word == str(root) or word.startswith(f"{root}/") for word in words
        ):
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def stop_bus(path: Path) -> None:
    """Ends whatever runs for this directory; a bus whose broker was killed is adopted first."""
    with BusDirectory.open(path) as directory:
        try:
            _ask_to_stop(directory)
        except BrokerNotRunningError:
            if bus_processes(path) or shared_objects({directory.bus_id_hex}):
                with Broker(path):
                    pass
    eventually(lambda: not bus_processes(path), STOP_TIMEOUT_S, f"all processes of {path} ended")


def _ask_to_stop(directory: BusDirectory) -> None:
    client = ControlClient(directory, timeout_s=STOP_TIMEOUT_S)
    try:
        client.call("stop")
    finally:
        client.close()


def end_bus(path: Path) -> list[str]:
    """Stops the bus, checks its directory and cleans up; returns everything that was wrong."""
    wrong = []
    try:
        stop_bus(path)
    except (BusError, AssertionError, OSError) as error:
        wrong.append(f"stopping {path}: {error!r}")
    wrong += [f"damage: {damage}" for damage in _damages(path)]
    for process in bus_processes(path):
        wrong.append(f"process left: {process.pid} {process.cmdline()}")
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    wrong += [f"left in /dev/shm: {name}" for name in shared_objects(bus_ids(path))]
    return wrong


def _damages(path: Path) -> list[str]:
    try:
        return [str(damage) for damage in check_directory(path)]
    except BusError as error:
        return [f"could not be checked: {error}"]
