"""How a worker process ended, told apart: by itself, by a signal, by the kernel for want of memory.

The OOM killer sends SIGKILL, as `kill -9` does. What tells them apart is a counter of the kernel
that rises with each such kill: of the memory cgroup that this process is in, else of the machine.
The counter rises before the victim ends, so a look at it after a death by SIGKILL is enough. A
kill of another process of the same cgroup within the same look is taken for ours: both were out
of memory.
"""

import re
import signal
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MACHINE: Final = Path("/proc/vmstat")
_COUNT: Final = re.compile(r"^oom_kill (\d+)$", flags=re.MULTILINE)


class Cause(Enum):
    """Why a process is no more."""

    #: it returned: exit code 0
    DONE = "done"
    #: it exited with another code
    ERROR = "error"
    #: a signal ended it, and nobody of this package sent it for a reason of its own
    SIGNAL = "signal"
    #: the kernel's OOM killer
    OOM = "oom"
    #: nobody was there to take its exit code
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one process. `code` is None unless it exited by itself."""

    pid: int
    cause: Cause
    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        return f"worker process {self.pid} {self._how()}"

    def _how(self) -> str:
        if self.cause is Cause.OOM:
            return "was killed by the kernel: out of memory"
        if self.cause is Cause.SIGNAL:
            return f"was ended by {signal_name(self.signal or 0)}"
        if self.cause is Cause.UNKNOWN:
            return "ended, and its exit code is not known"
        return f"exited with code {self.code}"


def exit_of(pid: int, code: int | None, *, out_of_memory: bool) -> Exit:
    """What an exit code says, negative for a signal as in multiprocessing; None: not known."""
    if code is None:
        return Exit(pid, Cause.UNKNOWN)
    if code < 0:
        killed = out_of_memory and -code == signal.SIGKILL
        return Exit(pid, Cause.OOM if killed else Cause.SIGNAL, signal=-code)
    return Exit(pid, Cause.ERROR if code else Cause.DONE, code=code)


def signal_name(number: int) -> str:
    """SIGKILL for 9; "signal 40" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class OomCounter:
    """Sees whether the OOM killer has struck since the last look."""

    def __init__(self, file: Path | None = None) -> None:
        """`file` holds a line "oom_kill N"; by default the nearest one of this process."""
        self._file = file or counter_file()
        self._last = self._count()

    def struck(self) -> bool:
        """True if the count has risen since it was last asked."""
        last, self._last = self._last, self._count()
        return self._last > last

    def _count(self) -> int:
        try:
            match = _COUNT.search(self._file.read_text())
        except OSError:
            # the cgroup is gone, or /proc is not mounted: deaths by SIGKILL are just that then
            return 0
        return int(match[1]) if match else 0


def counter_file(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> Path:
    """The file with the count of OOM kills that says most about this process."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return _MACHINE
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":  # version 1
            found = _first_with_count(cgroups / "memory", path, "memory.oom_control")
        elif controllers == "":  # version 2
            found = _first_with_count(cgroups, path, "memory.events")
        else:
            continue
        if found is not None:
            return found
    return _MACHINE


def _first_with_count(root: Path, path: str, name: str) -> Path | None:
    # inside a container the path is often that of the host, and the root is what is there
    for place in (root / path.lstrip("/") / name, root / name):
        try:
            if _COUNT.search(place.read_text()):
                return place
        except OSError:
            continue
    return None
