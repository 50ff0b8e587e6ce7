"""What every scenario is given: how long, how often, where, and where to put the results."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from benchmarks.measure import Results


@dataclass(frozen=True)
class Stage:
    """The settings of one run of the benchmarks.

    `seconds` is how long one sample of a throughput takes, about; `path` is the directory of a bus
    whose broker is running; `scratch` is a directory on the same disk; `progress` is a terminal or
    whatever stderr was.
    """

    rounds: int
    seconds: float
    quick: bool
    path: Path
    scratch: Path
    progress: TextIO
    results: Results = field(default_factory=Results)

    def in_turns(self, what: str) -> Iterator[int]:
        """Yields the rounds and says how far it is, if somebody watches."""
        for number in range(self.rounds):
            self._say(f"{what}: round {number + 1} of {self.rounds}")
            yield number
        self._say("")

    def _say(self, text: str) -> None:
        if self.progress.isatty():
            print(f"\r\033[K{text}", end="", file=self.progress, flush=True)


@contextlib.contextmanager
def stderr_to(log: Path) -> Iterator[TextIO]:
    """Sends what this process and its brokers write to stderr into a file; yields the old stderr.

    If the block fails, the file is shown.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 2)
    os.close(fd)
    terminal = os.fdopen(kept, "w", closefd=False)
    try:
        yield terminal
    except BaseException:
        terminal.write(log.read_text(encoding="utf-8", errors="replace"))
        raise
    finally:
        terminal.close()
        os.dup2(kept, 2)
        os.close(kept)
