"""What can happen to a file at rest, and to which files it is done."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.buses import SHARED_MEMORY
from tests.damage.rest_bus import HOW, KILLED, STOPPED, RestingBus

#: Files that a bus does not need again: locks, sockets, logs.
NO_MATTER = ("broker.lock", "clients.lock", "broker.sock", "broker.log", "replica.lock")
_PAGE = 4096


@dataclass(frozen=True)
class Fault:
    """One thing done to one or two files of a bus."""

    how: str
    deed: str
    files: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        return f"{self.how}: {self.deed} {' and '.join(self.files)} (seed {self.seed})"

    def inflict(self, bus: RestingBus) -> None:
        """Do it."""
        dice = Random(self.seed)
        for name in self.files:
            DEEDS[self.deed](bus.file(name), dice)


def flip(file: Path, dice: Random) -> None:
    """One bit, in what was written: half of the time in the first page."""
    data = bytearray(file.read_bytes())
    written = [at for at in range(0, len(data), 64) if any(data[at : at + 64])]
    first = [at for at in written if at < _PAGE]
    at = min(dice.choice(dice.choice((first, written)) or [0]) + dice.randrange(64), len(data) - 1)
    data[at] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def scramble(file: Path, dice: Random) -> None:
    """64 random bytes somewhere."""
    data = bytearray(file.read_bytes())
    written = [at for at in range(0, len(data), 64) if any(data[at : at + 64])]
    at = dice.choice(written or [0])  # a prepared file holds nothing yet
    data[at : at + 64] = dice.randbytes(min(64, len(data) - at))
    file.write_bytes(data)


def cut(file: Path, dice: Random) -> None:
    """Truncated somewhere, to nothing now and then."""
    os.truncate(file, dice.choice((0, dice.randrange(file.stat().st_size))))


def zero(file: Path, _: Random) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def zero_page(file: Path, dice: Random) -> None:
    """A page that holds something."""
    data = bytearray(file.read_bytes())
    pages = [at for at in range(0, len(data), _PAGE) if any(data[at : at + _PAGE])]
    at = dice.choice(pages or [0])
    data[at : at + _PAGE] = bytes(len(data[at : at + _PAGE]))
    file.write_bytes(data)


def delete(file: Path, _: Random) -> None:
    file.unlink()


def exchange(file: Path, dice: Random) -> None:
    """The contents of another file of its kind, or rubbish if there is none."""
    around = file.parent if file.parent.parent == SHARED_MEMORY else file.parent.parent
    others = [one for one in around.rglob(f"*{file.suffix}") if one.is_file()]
    others = [one for one in others if one.suffix == file.suffix and not _same(one, file)]
    file.write_bytes(dice.choice(sorted(others)).read_bytes() if others else dice.randbytes(500))


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def directory(file: Path, _: Random) -> None:
    file.unlink()
    file.mkdir(mode=0o700)


def link(file: Path, _: Random) -> None:
    aside = file.with_name(f"{file.name}.moved")
    if file.parent.parent == SHARED_MEMORY:  # where only files of a bus may be
        aside = SHARED_MEMORY / f"{file.parent.name}-{aside.name}"
    file.rename(aside)
    file.symlink_to(aside)


DEEDS: dict[str, Callable[[Path, Random], None]] = {
    "flip a bit of": flip,
    "scramble 64 bytes of": scramble,
    "truncate": cut,
    "zero": zero,
    "zero a page of": zero_page,
    "delete": delete,
    "exchange": exchange,
    "put a directory in the place of": directory,
    "put a symbolic link in the place of": link,
}
#: That change what two files say, each in another place.
_TWICE = ("flip a bit of", "scramble 64 bytes of", "truncate", "zero a page of")


def singles(bus: RestingBus, seeds: int) -> Iterator[Fault]:
    """Every deed to every file; those with a choice of places `seeds` times."""
    for name in bus.files():
        if name.rpartition("/")[2] in NO_MATTER or name == "hot:home":
            continue
        for deed in DEEDS:
            times = seeds if deed in _TWICE else 1
            yield from (Fault(bus.how, deed, (name,), seed) for seed in range(times))


def doubles(bus: RestingBus, seeds: int) -> Iterator[Fault]:
    """Both copies of what is kept twice, damaged in different places."""
    names = set(bus.files())
    pairs = [(name, f"{name}.copy") for name in sorted(names) if f"{name}.copy" in names]
    for pair in pairs:
        for deed in _TWICE:
            yield from (Fault(bus.how, deed, pair, 100 + seed) for seed in range(seeds))


def sampled(
    resting: Callable[[str], RestingBus], *, at_most: int, everywhere: bool
) -> Iterator[tuple[RestingBus, Fault]]:
    """So many faults of a bus that came to rest in one way, or in each; BUS_FAULT_SEED says which.

    The seed is printed.
    """
    seed = int(os.environ.get("BUS_FAULT_SEED") or int.from_bytes(os.urandom(3), "big"))
    print(f"BUS_FAULT_SEED={seed}")
    dice = Random(seed)
    for how in HOW if everywhere else dice.sample((STOPPED, KILLED), 1):
        bus = resting(how)
        faults = [*singles(bus, 3), *doubles(bus, 3)]
        for fault in dice.sample(faults, min(at_most, len(faults))):
            yield bus, fault
