"""What the tests of resources did and measured, as docs/resources.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: what each file of tests is about, with its sizes; a file that is not named here is not run
ABOUT = {
    "tests/resources/test_space.py": "every amount of free disk, memory, inodes; descriptors;"
    " address space",
    "tests/resources/test_many_clients.py": "all client slots taken; 500 processes killed at once;"
    " a tree of forks",
    "tests/resources/test_many_partitions.py": "a topic of 1,000 partitions, and 1,000 topics",
    "tests/resources/test_leftovers.py": "each kind of leftover, after a kill, a stop and half a"
    " stop",
    "tests/resources/test_clock.py": "the wall clock jumps by ten years, there and back",
    "tests/resources/test_hung_disk.py": "syncs that do not come back",
    "tests/resources/real_disk.py": "a device that does not answer: replica and broker in state D",
    "tests/stops/test_partition_locks.py": "a sender stopped at {stops} instructions of an"
    " append, drawn by chance",
    "tests/stops/test_groups.py": "members stopped inside and outside of their group's mutex",
    "tests/stops/test_brokers_and_replicas.py": "brokers, replicas and consumers that are stopped",
}


@dataclass(frozen=True)
class Sizes:
    """How much of it: BUS_RESOURCE_SAMPLES, BUS_RESOURCE_EVERY and BUS_FAULT_STOPS."""

    samples: int
    every: int
    stops: int

    @property
    def text(self) -> str:
        """For people."""
        amounts = "all" if self.every == 1 else f"one of {self.every}, from the first one on"
        if self.samples:
            amounts = f"{self.samples} of each kind by chance, and all else in the small"
        return (
            f"amounts of disk, memory and inodes, and kinds of leftovers alone: {amounts};"
            f" stops inside of an append: {self.stops}"
        )


@dataclass(frozen=True)
class Part:
    """What one file of tests did: seconds of each test that passed, and what was measured."""

    commit: str
    sizes: Sequence[int]
    date: str
    load: float
    passed: Sequence[float]
    figures: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))  # JSON has lists


def page(parts: Mapping[str, Part], sizes: Sizes, *, command: str) -> str:
    """The page: written only when no test failed, of all parts."""
    rows = "\n".join(
        f"| `{file}` | {ABOUT[file].format(stops=sizes.stops)} | {len(part.passed)}"
        f" | {sum(part.passed):.0f} | {part.commit} |"
        for file, part in sorted(parts.items())
    )
    measured = "\n".join(
        f"| {what} | {value} |" for part in parts.values() for what, value in part.figures.items()
    )
    date = max(part.date for part in parts.values())
    loads = [part.load for part in parts.values()]
    return f"""# Resources: what runs out, hangs, jumps or was left behind

`{command}` lets a bus run out of each thing that it needs, one amount after the other, and gives it
back. A run fails, and no page is written, if an acknowledged record is gone, an error does not name
its cause, somebody hangs who has nothing to do with it, or a process, a semaphore, a file or an
object in shared memory is left.

Last run: {date}.

Sizes: {sizes.text}. (`BUS_RESOURCE_EVERY=1` and `BUS_FAULT_STOPS=100` are the whole.)

| tests | what | passed | s | at commit |
|---|---|---|---|---|
{rows}

Failed: 0.

## Measured on the way

On one virtual machine with two processors, on which {min(loads):.0f} to {max(loads):.0f} processes
wanted to run (load average of 5 minutes); a sync of its disk takes 2 to 5 ms at rest. What is done
to each partition in turn (making, opening, a clean stop) is two syncs of it.

| | |
|---|---|
{measured}
"""
