"""Explores a Promela model exhaustively: every interleaving of its processes, every death."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.tools import tool

MODELS: Final = Path(__file__).resolve().parent
#: Longest path in steps; a model that needs more is not explored to its end, and fails.
DEPTH_MAX: Final = 1_000_000
MEMORY_MIB_MAX: Final = 4000
TIMEOUT_S: Final = 1800
_BREAKAGE: Final = re.compile(r"#if(?:n?def) (BREAK_\w+)")


@dataclass(frozen=True)
class Exploration:
    """What Spin found. `unreached` are lines of processes that no execution came to.

    Lines of inlines are not among them: each place that uses one has a copy of its own.
    """

    errors: int
    states: int
    first_error: str
    is_complete: bool
    unreached: tuple[int, ...]


def model(name: str) -> Path:
    """The file of a model."""
    return MODELS / f"{name}.pml"


def names() -> list[str]:
    """All models."""
    return sorted(path.stem for path in MODELS.glob("*.pml"))


def breakages(name: str) -> list[str]:
    """The macros of a model that each take out or misplace one step of its protocol."""
    return sorted(set(_BREAKAGE.findall(model(name).read_text())))


def explore(name: str, directory: Path, *defines: str, optimise: str = "-O0") -> Exploration:
    """Generates, compiles and runs the verifier of a model in an empty directory.

    Up to a million states, compiling with `optimise` takes longer than it saves.
    """
    flags = [f"-D{define}" for define in defines]
    _run([tool("spin"), *flags, "-a", str(model(name))], directory)
    _run(
        ["cc", optimise, "-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MIB_MAX}", "-o", "pan", "pan.c"],
        directory,
    )
    return _understood(name, _run(["./pan", f"-m{DEPTH_MAX}"], directory))


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def _understood(name: str, report: str) -> Exploration:
    errors = re.search(r"errors: (\d+)", report)
    states = re.search(r"(\d+) states, stored", report)
    assert errors and states, report
    first = re.search(r"^pan:\d+: (.*)$", report, re.MULTILINE)
    cut_short = "Search not completed" in report or "too small" in report
    return Exploration(
        errors=int(errors[1]),
        states=int(states[1]),
        first_error=first[1] if first else "",
        is_complete=not cut_short,
        unreached=_unreached(name, report),
    )


def _unreached(name: str, report: str) -> tuple[int, ...]:
    lines = {int(at) for at in re.findall(r"^\t.*\.pml:(\d+), state", report, re.MULTILINE)}
    inlined = set()
    inside = False
    for number, line in enumerate(model(name).read_text().splitlines(), start=1):
        inside = line.startswith("inline ") or (inside and not line.startswith("}"))
        if inside:
            inlined.add(number)
    return tuple(sorted(lines - inlined))
