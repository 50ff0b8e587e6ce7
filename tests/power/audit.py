"""A machine that comes up with a crash image: recovered, checked, read, and written to again."""

import shutil
from pathlib import Path
from random import Random

from bus.check import check_directory
from bus.errors import BusError
from tests.power.machine import Machine
from tests.power.operations import Tree
from tests.power.promises import Promises
from tests.power.recorder import Recorder
from tests.power.workload import without_threads

#: Names that only a write that was cut short leaves; a recovery removes them.
LEFTOVERS = "*.tmp"
#: Share of the boots after which `bus check` runs a second time: it is most of the cost.
CHECKED_TWICE = 0.2


class Boot:
    """One boot of an image, in a directory that is made for it and removed again."""

    def __init__(self, place: Path, image: Tree, promised: Promises) -> None:
        self.place = place / "boot"
        self.root = self.place / "disk"
        self.hot = self.place / "hot"
        self.root.mkdir(mode=0o700, parents=True)
        image.write(self.root)
        self.promised = promised.copy()
        self.recorder = Recorder(self.root)

    def run(self, dice: Random) -> list[str]:
        """Boots, compares, goes on, compares again; what is wrong, as sentences."""
        try:
            with without_threads(), self.recorder.recording():
                return self._run(dice)
        except (BusError, OSError, AssertionError) as error:
            return [f"{type(error).__name__}: {error}"]
        finally:
            self.recorder.close()
            shutil.rmtree(self.place)

    def _run(self, dice: Random) -> list[str]:
        path = self.root / "bus"
        machine = Machine(path, self.hot, self._note)
        machine.start()
        found = machine.found()
        wrong = self.promised.broken_by(found)
        for mark in found.survivors():
            self._note(mark)
        wrong += self._damages(path)
        wrong += [f"left over: {file}" for file in sorted(self.root.rglob(LEFTOVERS))]
        self._go_on(machine, dice)
        wrong += [f"afterwards: {one}" for one in self.promised.broken_by(machine.found())]
        if dice.random() < CHECKED_TWICE:
            wrong += [f"afterwards: {one}" for one in self._damages(path)]
        machine.lose_power()
        return wrong

    def _note(self, mark: object) -> None:
        self.recorder.mark(mark)
        self.promised.fold([mark])

    def _go_on(self, machine: Machine, dice: Random) -> None:
        """The bus is in use again: every partition takes a record and makes it durable."""
        for key in machine.partitions():
            machine.send(key, dice.randbytes(dice.choice((1, 500, 30_000))))
            machine.drain(key)
            machine.commit("billing", key, machine.partition(key).log.log_end_offset)
        machine.sync_groups()

    def _damages(self, path: Path) -> list[str]:
        return [f"bus check: {damage}" for damage in check_directory(path)]
