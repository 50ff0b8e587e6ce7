"""What every scenario is given: how long, how often, where, and where to put the results."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Results


@dataclass(frozen=True)
class Stage:
    """The settings of one run of the benchmarks.

    `seconds` is how long one sample of a throughput takes, about; `path` is the directory of a bus
    whose broker is running; `scratch` is a directory on the same disk.
    """

    rounds: int
    seconds: float
    quick: bool
    path: Path
    scratch: Path
    results: Results = field(default_factory=Results)

    def in_turns(self, what: str) -> Iterator[int]:
        """Yields the rounds and says on stderr how far it is."""
        for number in range(self.rounds):
            print(f"\r\033[K{what}: round {number + 1} of {self.rounds}", end="", file=sys.stderr)
            sys.stderr.flush()
            yield number
        print("\r\033[K", end="", file=sys.stderr)
