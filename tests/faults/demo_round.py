"""One round: `bus demo` runs, some of its processes are killed, and everything must add up.

kept       the totals are equal, the exit code is 0, and afterwards every record that was seen
           as durable is there, each file and each count among them
own        the totals are equal, the exit code is 0, and the demo's own bus is gone entirely
orphaned   the demo's main process dies (alone, or with all the others): what is left ends by
           itself; the next start finds every record, and a demo runs on the same bus
"""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bus.autostart import environment
from bus.structs import TopicPartition
from tests.buses import bus_ids, end_bus, shared_objects
from tests.faults.plan import ALL, KEPT, ORPHANED, OWN, Kill, Round
from tests.faults.processes import BROKER, MAIN, STARTING, kill, processes
from tests.faults.witness import Stored, Witness, missing, read_all
from tests.waiting import eventually

#: A run that takes longer hangs, in seconds.
HANG_S = 180.0
#: What is orphaned ends by itself within this time, in seconds: after a second or so, or after
#: the 30 s that a broker lingers which was started because the first one had been killed.
ORPHAN_END_S = 45.0
#: Source files of the run that follows when a main process was killed.
AGAIN_FILES = 12
#: An autostarted broker of an orphaned round ends so soon after its last client, in seconds.
_LINGER_S = 1.0
_LOOK_MS = 4.0


class RoundFailed(AssertionError):
    """Raised with everything that was wrong in a round."""


@dataclass(slots=True)
class Result:
    """What a round did and found."""

    plan: Round
    seconds: float = 0.0
    #: processes killed, by role
    killed: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    #: files that the demo counted twice, and added once
    duplicates: int = 0
    #: seconds from a kill to the next durable record
    recoveries: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class DemoRound:
    """Runs one round in a directory of its own."""

    def __init__(self, plan: Round, place: Path, files: int) -> None:
        self.result = Result(plan)
        self._plan = plan
        self._files = files
        self._place = place
        self._path = place / "bus"
        self._output, self._errors = place / "demo.json", place / "demo.err"
        self._ids: set[str] = set()
        self._killed_at: float | None = None

    def run(self) -> Result:
        """The round. Raises RoundFailed, which says everything that was wrong."""
        started = time.monotonic()
        if self._plan.kind == ORPHANED:
            _serve_shortly(self._path)
        with Witness(self._path, "^demo-") as witness:
            code = self._under_fire(witness)
            self.result.acknowledged = witness.count
        self._check_exit(code)
        if self._plan.kind == OWN:
            self._check_own_bus()
        else:
            self._check_kept_bus(witness)
        self.result.seconds = time.monotonic() - started
        if self.result.wrong:
            raise RoundFailed("\n".join([str(self._plan), *self.result.wrong, *self._traces()]))
        return self.result

    # ------------------------------------------------------------------------------ the fire

    def _under_fire(self, witness: Witness) -> int:
        main = self._start()
        began = time.monotonic()
        waiting = list(self._plan.kills)
        try:
            while main.poll() is None:
                self._see(witness)
                if waiting and self._is_due(waiting[0], witness, began, main.pid):
                    self._strike(waiting.pop(0), main)
                if time.monotonic() - began > HANG_S:
                    self._dump(main)
        finally:
            main.kill()
            code = main.wait()
        return code

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "bus", "demo", "--json"]
        command += ["--files", str(self._files), "--seed", str(self._plan.seed)]
        surroundings = environment() | {"PYTHONFAULTHANDLER": "1", "TMPDIR": str(self._place)}
        if self._plan.kind != OWN:
            command += ["--dir", str(self._path), "--keep"]
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=surroundings
            )

    def _see(self, witness: Witness) -> None:
        if self._plan.kind == OWN:
            found = list(self._place.glob("bus-demo-*/runtime.json"))
            if not found:
                return
            self._path = witness.path = found[0].parent
            with suppress(FileNotFoundError):  # the demo may be removing it
                self._ids.add(json.loads((self._path / "bus.json").read_text())["bus_id"])
        if witness.look(_LOOK_MS) and self._killed_at is not None:
            self.result.recoveries.append(time.monotonic() - self._killed_at)
            self._killed_at = None

    def _others(self, main_pid: int) -> list[tuple[str, psutil.Process]]:
        """All but the main process. A child that has not turned to its program looks like that."""
        return [
            (STARTING if role == MAIN else role, one)
            for role, one in processes(self._path)
            if one.pid != main_pid
        ]

    def _is_due(self, due: Kill, witness: Witness, began: float, main_pid: int) -> bool:
        """True once the records are there, or at first any process, and the delay is over."""
        if due.after == 0.0:
            return time.monotonic() - began >= due.delay_s and bool(self._others(main_pid))
        if witness.count < due.after * 2 * self._files:
            return False
        until = time.monotonic() + due.delay_s
        while time.monotonic() < until:
            self._see(witness)
        return True

    def _strike(self, due: Kill, main: "subprocess.Popen[bytes]") -> None:
        """Kill one process of that role, or any of the bus if there is none yet, or no more."""
        alive = self._others(main.pid)
        targets = [(role, one) for role, one in alive if role == due.role] or alive
        if due.role in (MAIN, ALL):
            main.kill()
            main.wait()
            self.result.killed[MAIN] += 1
            targets = alive if due.role == ALL else []
        elif targets:
            targets = [targets[due.pick(len(targets))]]
        if self._killed_at is None:  # of several kills without a record between, the first counts
            self._killed_at = time.monotonic()
        gone = kill(one for _, one in targets)
        self.result.killed.update(role for role, one in targets if one.pid in gone)

    def _dump(self, main: "subprocess.Popen[bytes]") -> None:
        """The stacks of the demo's processes go to its error output; then it is over."""
        for role, process in processes(self._path):
            self.result.wrong.append(f"hangs: {role} {process.pid}")
            if role not in (BROKER, "replica"):
                process.send_signal(signal.SIGABRT)
        main.send_signal(signal.SIGABRT)
        main.wait()
        self.result.wrong.append(f"the demo did not end within {HANG_S} s")

    # ------------------------------------------------------------------------------- the end

    def _check_exit(self, code: int) -> None:
        expected = -signal.SIGKILL if self.result.killed[MAIN] else 0
        if code != expected:
            self.result.wrong.append(f"exit code {code}, expected {expected}")
        if code == 0:
            outcome = json.loads(self._output.read_text())
            self.result.duplicates = outcome["counted_twice"]
            if not outcome["equal"]:
                self.result.wrong.append("the totals differ")

    def _check_own_bus(self) -> None:
        """The demo has removed its bus; nothing of it is left, and nobody helped."""
        wrong = self.result.wrong
        wrong += [f"directory left: {one}" for one in self._place.glob("bus-demo-*")]
        wrong += [f"left: {role} {one.pid}" for role, one in processes(self._path)]
        wrong += [f"left in /dev/shm: {one}" for one in shared_objects(self._ids)]

    def _check_kept_bus(self, witness: Witness) -> None:
        wrong = self.result.wrong
        if self.result.killed[MAIN]:
            wrong += self._orphans()
        records = read_all(self._path, sorted({seen.topic for seen in witness.seen}))
        wrong += missing(witness.seen, records)
        if self._plan.kind == KEPT:
            wrong += self._incomplete(records)
        if self.result.killed[MAIN]:
            wrong += self._run_again()
        wrong += end_bus(self._path)

    def _orphans(self) -> list[str]:
        """Without its main process, everything ends by itself."""
        try:
            eventually(lambda: not processes(self._path), ORPHAN_END_S, "all orphans ended")
        except AssertionError as error:
            return [str(error), *(f"left: {role} {one}" for role, one in processes(self._path))]
        if self.result.killed[BROKER]:
            return []  # nobody was there to take the hot log down: the next broker adopts it
        return [f"left in /dev/shm: {one}" for one in shared_objects(bus_ids(self._path))]

    def _incomplete(self, records: dict[TopicPartition, list[Stored]]) -> list[str]:
        """Every file was sent, and counted: the keys of both topics are the same."""
        keys: dict[str, set[bytes | None]] = {}
        for partition, stored in records.items():
            topic = partition.topic.rpartition("-")[0]
            keys.setdefault(topic, set()).update(one.key for one in stored)
        sources, counts = keys.get("demo-sources", set()), keys.get("demo-counts", set())
        if len(sources) == self._files and sources == counts:
            return []
        return [f"{self._files} files, but {len(sources)} were kept, and {len(counts)} counts"]

    def _run_again(self) -> list[str]:
        """A demo on the bus that was left behind."""
        command = [sys.executable, "-P", "-m", "bus", "demo", "--json", "--no-kill"]
        command += ["--files", str(AGAIN_FILES), "--dir", str(self._path)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), timeout=HANG_S
        )
        return [f"the next demo: {done.returncode}, {done.stderr}"] if done.returncode else []

    def _traces(self) -> Sequence[str]:
        log = self._path / "broker.log"
        files = [one for one in (self._errors, log) if one.exists()]
        return [f"--- {one}\n{one.read_text(errors='replace')[-6000:]}" for one in files]


def _serve_shortly(path: Path) -> None:
    """A broker that ends soon after its last client, as an autostarted one does later."""
    path.mkdir(mode=0o700)
    config = json.dumps({"linger_s": _LINGER_S})
    command = [sys.executable, "-P", "-m", "bus.supervisor", str(path), "--autostarted"]
    with (path / "broker.log").open("ab") as log:
        subprocess.run(
            [*command, "--config", config],
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
            check=True,
        )
    eventually(lambda: (path / "broker.sock").exists(), what="a broker")
