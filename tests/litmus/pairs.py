"""Builds and runs pairs.c, on this processor or on one that qemu plays."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
NATIVE: Final = ROOT / "bus" / "native"
SOURCE: Final = Path(__file__).with_name("pairs.c")
FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
TIMEOUT_S: Final = 120

#: The one whose forbidden outcome must be seen.
CONTROL: Final = "sb-unfenced"
PAIRS: Final = (
    "sb",
    "sleep-and-wake",
    "pin-and-retire",
    "mp",
    "marks",
    "reader-attach",
    "lb",
)
KINDS: Final = ("threads", "processes")


class Outcome(NamedTuple):
    """How often a pair was run, and how often what may not be seen was seen."""

    rounds: int
    forbidden: int


def core_sources() -> list[Path]:
    """The core's C files, without what Cython generates."""
    return sorted(path for path in NATIVE.glob("*.c") if path.name != "core.c")


def build(directory: Path, compiler: Sequence[str] = ("cc",)) -> Path:
    """Compiles pairs.c with the core's own files."""
    program = directory / "pairs"
    includes = [f"-I{NATIVE}", f"-I{ROOT / 'tests' / 'native'}"]
    files = [str(SOURCE), *map(str, core_sources())]
    command = [*compiler, *FLAGS, *includes, *files, "-pthread", "-lrt", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run(command: Sequence[str], kind: str, pair: str, seconds: float) -> Outcome:
    """Runs one pair for so many seconds; the control ends with its first forbidden outcome."""
    words = [*command, kind, pair, str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(rf"{pair} (\d+) rounds, (\d+) forbidden\n", done.stdout)
    assert found, done.stdout
    return Outcome(int(found[1]), int(found[2]))
