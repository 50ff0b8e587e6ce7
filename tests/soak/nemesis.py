"""Does harm, writes down what it did, and heals it."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from bus.autostart import environment
from bus.errors import BusError
from tests.bad_input.places import fill
from tests.broker.rig import ask
from tests.buses import SHARED_MEMORY, bus_ids, shared_objects
from tests.faults.processes import BROKER, kill, processes
from tests.soak.fleet import Fleet
from tests.soak.history import ACTION, KILLED, LOSS, Diary
from tests.soak.plan import EVERYTHING, FILL, KILL, PAUSE, REBOOT, SEVERAL, STOP, Action
from tests.waiting import eventually

#: A bus that is stopped has so long to end, in seconds: its own limit is 30.
STOP_S: Final = 60.0
#: Of the brokers that are not left to the clients to start: retention is at work all the time.
_CONFIG: Final = {"retention_check_ms": 1000}


class Nemesis:
    """One for each round. `tick` has to be called often: what was stopped goes on in time."""

    def __init__(self, disk: Path, path: Path, fleet: Fleet, diary: Diary) -> None:
        self._disk = disk
        self._path = path
        self._fleet = fleet
        self._diary = diary
        #: (when it goes on, the stopped process)
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._freed_at: float | None = None

    def strike(self, action: Action) -> None:
        """One action."""
        began = time.monotonic_ns()
        details = {
            KILL: self._kill,
            SEVERAL: self._kill,
            EVERYTHING: self._kill_everything,
            PAUSE: self._pause,
            STOP: self._stop_bus,
            FILL: self._fill,
            REBOOT: self._reboot,
        }[action.name](action)
        if details is not None:
            name = f"{action.name}: {details}" if action.name in (KILL, PAUSE) else action.name
            self._diary.write(ACTION, name, began, details)

    def tick(self) -> None:
        """What was stopped or filled for a while is no more, when its time is over."""
        now = time.monotonic()
        for due, process in list(self._stopped):
            if now >= due:
                self._stopped.remove((due, process))
                _send(process, signal.SIGCONT)
        if self._freed_at is not None and now >= self._freed_at:
            self._free()

    def heal(self) -> None:
        """Nothing is stopped, and the disk has room."""
        for _, process in self._stopped:
            _send(process, signal.SIGCONT)
        self._stopped.clear()
        self._free()

    # ---------------------------------------------------------------------------------- harm

    def _targets(self, roles: tuple[str, ...]) -> Iterator[psutil.Process]:
        """One process for each role, if there is one; never one that shall be left alone."""
        found = processes(self._path)
        for at, role in enumerate(roles):
            able = [one for known, one in found if known == role and not self._is_calm(one)]
            if able:
                yield able[(at + time.monotonic_ns() // 1000) % len(able)]

    def _is_calm(self, process: psutil.Process) -> bool:
        worker = self._fleet.find(process.pid)
        return worker is not None and worker.member.calm

    def _kill(self, action: Action) -> str | None:
        targets = list({one.pid: one for one in self._targets(action.roles)}.values())
        self._end(targets)
        if BROKER in action.roles:
            serve(self._path)
        return ", ".join(action.roles) if targets else None

    def _end(self, targets: list[psutil.Process]) -> None:
        for process in targets:
            worker = self._fleet.find(process.pid)
            if worker is not None:
                worker.killed = True
                self._diary.write(KILLED, worker.name, time.monotonic_ns())
        kill(targets)
        gone = {one.pid for one in targets}
        self._stopped = [one for one in self._stopped if one[1].pid not in gone]

    def _kill_everything(self, _: Action) -> str:
        """Again, if one had just been started by another."""
        while targets := [process for _, process in processes(self._path)]:
            self._end(targets)
        return "all"

    def _pause(self, action: Action) -> str | None:
        for process in self._targets(action.roles):
            if _send(process, signal.SIGSTOP):
                self._stopped.append((time.monotonic() + action.seconds, process))
                return action.roles[0]
        return None

    def _stop_bus(self, _: Action) -> str | None:
        """As `bus stop` does. Memory topics are empty afterwards."""
        self.heal()
        brokers = [one for role, one in processes(self._path) if role == BROKER]
        began = time.monotonic_ns()
        try:
            ask(self._path, "stop")
            eventually(
                lambda: not any(map(_is_alive, brokers)), STOP_S, "the bus ended after a stop"
            )
        except BusError:
            return None  # nobody there to be stopped: one that is just starting goes on
        finally:
            self._diary.write(LOSS, "stop", began)
        return "bus"

    def _fill(self, action: Action) -> str | None:
        if self._freed_at is not None:
            return None
        fill(self._disk)
        self._freed_at = time.monotonic() + action.seconds
        return "disk"

    def _free(self) -> None:
        (self._disk / "ballast").unlink(missing_ok=True)
        self._freed_at = None

    def _reboot(self, action: Action) -> str:
        """Everything dies, and what was in memory is gone: what a power cut leaves, and no more."""
        began = time.monotonic_ns()
        self._kill_everything(action)
        cut_power(self._path)
        self._diary.write(LOSS, "reboot", began)
        return "all"


def serve(path: Path) -> None:
    """A broker with short times, unless a client was faster, or the disk is full."""
    path.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-P", "-m", "bus.supervisor", str(path), "--autostarted"]
    with (path.parent.parent / "served.log").open("ab") as log:
        subprocess.run(
            [*command, "--config", json.dumps(_CONFIG)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
            check=False,
        )


def cut_power(path: Path) -> None:
    """Kills all that runs on a bus, and removes all that it has in shared memory."""
    while targets := [process for _, process in processes(path)]:
        kill(targets)
    shutil.rmtree(path / "hot", ignore_errors=True)
    for name in shared_objects(bus_ids(path)):
        found = SHARED_MEMORY / name
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()


def _send(process: psutil.Process, number: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
        return True
    return False


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
