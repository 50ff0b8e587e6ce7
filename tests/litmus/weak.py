"""Builds weak.cpp with the core's C files, as they are or with one pair broken, and runs it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from tests.litmus.mutations import MUTATIONS, Mutation
from tests.tools import header, tool

ROOT: Final = Path(__file__).resolve().parents[2]
NATIVE: Final = ROOT / "bus" / "native"
HERE: Final = Path(__file__).resolve().parent
TIMEOUT_S: Final = 900
TESTS: Final = sorted({one.test for one in MUTATIONS.values()})

#: Those whose loads and stores are seen; and those that only compute.
_SEEN: Final = ("log", "durable", "ring", "wait", "reader")
_OTHERS: Final = ("crc32c", "frame", "lock", "segment", "guard")


class Verdict(NamedTuple):
    """What Relacy says of one test: whether it holds, what it found, and after how many rounds."""

    test: str
    holds: bool
    what: str
    rounds: int


def prepare(directory: Path, optimise: str = "-O0") -> Path:
    """Compiles what no mutation changes into a directory, which is returned.

    Compiling Relacy takes longer than a few thousand rounds: only many are worth `optimise`.
    """
    header("relacy/relacy.hpp")
    for name in _OTHERS:
        _compile(NATIVE / f"{name}.c", directory / f"{name}.o", f"-I{NATIVE}")
    _compile(HERE / "weak.cpp", directory / "weak.o", f"-I{NATIVE}", f"-I{HERE}", optimise)
    return directory


def build(prepared: Path, directory: Path, mutation: Mutation | None = None) -> Path:
    """The program, with the core's files as they are or as the mutation makes them."""
    for file in (*NATIVE.glob("*.h"), *(NATIVE / f"{name}.c" for name in _SEEN)):
        shutil.copy(file, directory)
    if mutation is not None:
        changed = directory / mutation.file
        text = changed.read_text()
        assert text.count(mutation.old) == 1, f"{mutation.file} has changed: {mutation.old}"
        changed.write_text(text.replace(mutation.old, mutation.new))
    shutil.copy(HERE / "inlines.c", directory)
    for name in (*_SEEN, "inlines"):
        _compile(directory / f"{name}.c", directory / f"{name}.o", "-include", f"{HERE}/words.h")
    objects = sorted(map(str, (*prepared.glob("*.o"), *directory.glob("*.o"))))
    program = directory / "weak"
    _run([tool("g++"), *objects, "-pthread", "-lrt", "-o", str(program)])
    return program


def explore(program: Path, test: str, rounds: int) -> list[Verdict]:
    """Runs one test or `all` for so many rounds each, or until something is found."""
    output = _run([str(program), test, str(rounds)])
    found = re.findall(r"^(\w+): (.+) after (\d+) rounds$", output, re.MULTILINE)
    assert found, output
    return [Verdict(name, what == "holds", what, int(count)) for name, what, count in found]


def _compile(source: Path, target: Path, *flags: str) -> None:
    compiler = [tool("g++"), "-std=gnu++17"] if source.suffix == ".cpp" else ["cc", "-std=gnu11"]
    _run([*compiler, "-O0", "-w", *flags, "-c", str(source), "-o", str(target)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout
