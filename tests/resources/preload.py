"""Small libraries that are loaded before the C library: the wall clock, and the disk, as we say."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

_HERE = Path(__file__).parent
YEAR_S = 365 * 86_400


def library(name: str, place: Path) -> str:
    """The library of NAME.c, compiled."""
    made = place / f"{name}.so"
    command = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(made)]
    subprocess.run([*command, str(_HERE / f"{name}.c"), "-ldl"], check=True, timeout=60)
    return str(made)


@contextmanager
def preloaded(name: str, place: Path, **environment: str) -> Iterator[None]:
    """Every program that is started in the block has the library."""
    with patch.dict(os.environ, {"LD_PRELOAD": library(name, place), **environment}):
        yield


class Clock:
    """The wall clock of all programs that were started in `clock_for`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set_ahead(0)

    def set_ahead(self, seconds: float) -> None:
        """Against the true one; negative: behind."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT)
        try:
            os.pwrite(fd, struct.pack("<q", int(seconds * 1e9)), 0)
        finally:
            os.close(fd)


@contextmanager
def clock_in(place: Path) -> Iterator[Clock]:
    """Programs that are started in the block have a clock of their own."""
    clock = Clock(place / "clock")
    with preloaded("clock", place, BUS_TEST_CLOCK=str(place / "clock")):
        yield clock


@contextmanager
def disk_in(place: Path) -> Iterator[Path]:
    """While the file exists, no sync of a program that was started in the block comes back."""
    gate = place / "the disk hangs"
    try:
        with preloaded("disk", place, BUS_TEST_DISK_HANGS=str(gate)):
            yield gate
    finally:
        gate.unlink(missing_ok=True)
