"""Crash images of a recorded life, drawn by lot, and what is wrong with each."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.power.audit import Boot
from tests.power.disk import Disk, Habits, Image
from tests.power.operations import Mark, Operation, Tree
from tests.power.promises import Promises
from tests.power.recorder import Recorder
from tests.power.workload import Life, without_threads

#: Of all that was not synced: nothing is there; all of it; some; early or late versions; torn.
HABITS = (
    Habits(keep=0.0, newest=1.0, torn=0.0, names=0.0),
    Habits(keep=1.0, newest=1.0, torn=0.0, names=1.0),
    Habits(keep=1.0, newest=1.0, torn=0.0, names=0.0),
    Habits(keep=0.0, newest=1.0, torn=0.0, names=1.0),
    Habits(keep=0.5, newest=0.7, torn=0.2, names=0.5),
    Habits(keep=0.9, newest=0.9, torn=0.1, names=0.9),
    Habits(keep=0.1, newest=0.5, torn=0.1, names=0.3),
    Habits(keep=0.5, newest=0.5, torn=0.8, names=0.7),
)
#: One image in so many is cut again during its own recovery, and that one once more.
NESTED_EVERY = 3


@dataclass(frozen=True)
class Recording:
    """A life on a disk: what was there, and everything that came then."""

    base: Tree
    tape: list[Operation]

    def promises(self, cut: int) -> Promises:
        """What had been promised after that many operations."""
        return Promises().fold(one.what for one in self.tape[:cut] if isinstance(one, Mark))


def record(place: Path, seed: int, steps: int, without: frozenset[str] = frozenset()) -> Recording:
    """A life of so many steps below `place`, an empty directory."""
    root = place / "disk"
    root.mkdir(mode=0o700)
    recorder = Recorder(root, without=without)
    life = Life(root / "bus", place / "hot", recorder, Random(seed))
    try:
        with without_threads(), recorder.recording():
            life.run(steps)
            recorder.kill_at = None  # the power goes before those die who were to be killed next
            life.machine.lose_power()
    finally:
        recorder.close()
    return Recording(recorder.base, recorder.tape)


@dataclass(frozen=True)
class Failure:
    """An image after which a promise does not hold; `seed` and `number` make it again."""

    seed: int
    number: int
    cuts: list[int]
    kept: list[str]
    wrong: list[str]

    def __str__(self) -> str:
        return "\n  ".join(
            [
                f"image {self.number} of seed {self.seed}, cut after operations {self.cuts}:",
                *self.wrong,
                "kept of what was not synced:",
                *self.kept,
            ]
        )


class Cutter:
    """Cuts one recording again and again."""

    def __init__(self, recording: Recording, place: Path, seed: int) -> None:
        self._recording = recording
        self._place = place
        self._seed = seed
        self.images = 0

    def cut(self, number: int) -> Failure | None:
        """One image, and now and then images of its recovery; None if all that holds."""
        dice = Random(f"{self._seed}-{number}")
        recording, promised = self._recording, Promises()
        cuts: list[int] = []
        kept: list[str] = []
        for _ in range(3 if number % NESTED_EVERY == 0 else 1):
            cut = dice.randrange(len(recording.tape) + 1)
            image = crash(recording, cut, dice)
            cuts.append(cut)
            kept += image.kept
            promised = promised.copy().fold(
                one.what for one in recording.tape[:cut] if isinstance(one, Mark)
            )
            boot = Boot(self._place, image.tree, promised)
            self.images += 1
            wrong = boot.run(dice)
            if wrong:
                return Failure(self._seed, number, cuts, kept, wrong)
            recording = Recording(boot.recorder.base, boot.recorder.tape)
        return None


def crash(recording: Recording, cut: int, dice: Random) -> Image:
    """A power loss after `cut` operations."""
    disk = Disk(recording.base)
    disk.play(recording.tape[:cut])
    return disk.crash(dice.choice(HABITS), dice)
