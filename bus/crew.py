"""One replica process and the partitions that it serves; how partitions are shared out.

A process for each partition, as long as there are few: one that dies holds up nobody else. From
PROCESSES_MAX on they share, for a process costs some 5 MiB and a client slot. Whoever comes later
joins the smallest crew, whose process is then asked to end and started again with all of them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bus.liveness import RESERVED_SLOTS
from bus.open_partition import OpenPartition

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
#: Replica processes of a bus.
PROCESSES_MAX: Final = 48

assert PROCESSES_MAX * 4 <= RESERVED_SLOTS * 3, "some of those slots are of the dead"


@dataclass(eq=False)
class Crew:
    """One replica process and the partitions it serves."""

    partitions: list[OpenPartition]
    pid: int = 0
    pidfd: int = -1
    is_child: bool = False
    started_s: float = 0.0
    restarts: int = 0
    short_lives: int = 0
    #: it was asked to end, for its partitions are others now: the next process serves them all
    is_changing: bool = False
    #: when to start it (again), on the monotonic clock; None: it runs, or is not to run
    start_at_s: float | None = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        first = self.partitions[0]
        more = f" and {len(self.partitions) - 1} more" if len(self.partitions) > 1 else ""
        return f"{first.topic.name}-{first.number}{more}"


def pause_s(short_lives: int) -> float:
    """How long to wait before a replica that died so often in a row is restarted."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**short_lives) if short_lives else 0.0


def share_out(
    partitions: Sequence[OpenPartition], sizes: Sequence[int], size: int
) -> tuple[list[list[OpenPartition]], dict[int, list[OpenPartition]]]:
    """New crews of `size` partitions, as many as there may be; the rest go to the smallest ones.

    `sizes` are those of the crews there are. Returns the new crews, and what is to be added to
    which of the others, by its place in `sizes`.
    """
    wanted = -(-len(partitions) // size)
    count = min(wanted, max(PROCESSES_MAX - len(sizes), 0))
    if count == wanted:
        return [list(partitions[i * size : (i + 1) * size]) for i in range(count)], {}
    crews: list[list[OpenPartition]] = [[] for _ in range(count)]
    added: dict[int, list[OpenPartition]] = {}
    load = [(n, place) for place, n in enumerate([*sizes, *(0 for _ in crews)])]
    for partition in partitions:
        smallest = min(range(len(load)), key=load.__getitem__)
        if smallest < len(sizes):
            added.setdefault(smallest, []).append(partition)
        else:
            crews[smallest - len(sizes)].append(partition)
        load[smallest] = (load[smallest][0] + 1, smallest)
    return [crew for crew in crews if crew], added
