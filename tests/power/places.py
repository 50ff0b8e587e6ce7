"""Where disks that forget are kept: in RAM, under a name that says whose they are."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "bus-power-"


@contextmanager
def memory_place() -> Iterator[Path]:
    """An empty directory in RAM, gone with the block; so is what a killed test left before."""
    sweep()
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=SHARED_MEMORY))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def sweep() -> None:
    """Remove the places of processes that are not alive any more."""
    for place in SHARED_MEMORY.glob(f"{PREFIX}*"):
        pid = place.name.removeprefix(PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with suppress(FileNotFoundError):  # another test run sweeps as well
                shutil.rmtree(place)
