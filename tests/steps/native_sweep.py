"""Builds the stepping program of tests/steps/native together with the core, and runs it.

A state that a death leaves stands in the files of the program's directory while it asks about it.
The answer comes from what users have: `bus.check`, and a `Partition` that attaches and goes on.
"""

import os
import secrets
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bus.check.damage import Findings
from bus.check.hot import check_ring, read_hot
from bus.check.segment import Expected
from bus.errors import BusError
from bus.native.core import LAYOUT, Bells, Partition, Table

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "bus" / "native"
PROGRAM = Path(__file__).resolve().parent / "native"
#: The optimisation of setup.py: other instructions would be other deaths. No lazy binding, for a
#: child would resolve a function anew in every run.
FLAGS = ["-std=gnu11", "-O3", "-g", "-Wall", "-Wextra", "-Werror"]
LINK = ["-pthread", "-lrt", "-Wl,-z,now"]
TOPIC = 7
VICTIM, GENERATION, SURVIVOR = 5, 1, 9
SHARED_MEMORY = Path("/dev/shm")

#: Text of the core to be replaced: file name, what stands there, what it becomes.
Breakage = tuple[str, str, str]


@dataclass(frozen=True)
class Swept:
    """What was done for one path, and how many promises were found broken."""

    path: str
    instructions: int
    kills: int
    states: int
    violations: int
    seconds: float


@dataclass(frozen=True)
class Sweep:
    """All paths of one run; `violations` are the first ones, as sentences."""

    paths: tuple[Swept, ...]
    violations: tuple[str, ...]


def build(directory: Path, breakages: Iterable[Breakage] = ()) -> Path:
    """The stepping program, with the core as it is or broken on purpose."""
    return compiled(directory, "steps", PROGRAM.glob("*.c"), [PROGRAM], breakages)


def compiled(
    directory: Path,
    name: str,
    files: Iterable[Path],
    includes: Iterable[Path],
    breakages: Iterable[Breakage] = (),
) -> Path:
    """A program of these files and a copy of the core."""
    source = directory / f"core-{name}"
    source.mkdir()
    for file in CORE.glob("*.[ch]"):
        if file.name != "core.c":
            (source / file.name).write_text(file.read_text())
    for broken, old, new in breakages:
        text = (source / broken).read_text()
        assert text.count(old) == 1, f"{broken} does not hold this once: {old}"
        (source / broken).write_text(text.replace(old, new))
    program = directory / name
    places = [f"-I{place}" for place in (source, *includes)]
    sources = sorted(str(file) for file in (*source.glob("*.c"), *files))
    compiler = os.environ.get("CC", "cc")
    command = [compiler, *FLAGS, *places, *sources, *LINK, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    return program


def sweep(program: Path, directory: Path, *options: str, timeout_s: float) -> Sweep:
    """Runs the program in `directory`, answers what it asks, and cleans up behind it."""
    directory.mkdir()
    bus_id = secrets.randbits(63)
    command = [str(program), str(directory), f"{bus_id:x}", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as running:
        clock = threading.Timer(timeout_s, running.kill)
        clock.start()
        try:
            return _listen(running, directory, bus_id)
        finally:
            clock.cancel()
            running.kill()
            for left in SHARED_MEMORY.glob(f"sem.bus-{bus_id:016x}-*"):
                left.unlink()


def _listen(running: "subprocess.Popen[str]", directory: Path, bus_id: int) -> Sweep:
    assert running.stdout and running.stdin
    paths, violations, ended = [], [], False
    for line in running.stdout:
        kind, _, rest = line.rstrip("\n").partition(" ")
        if kind == "ask":
            running.stdin.write(_judge(directory, bus_id) + "\n")
            running.stdin.flush()
        elif kind == "violation":
            violations.append(rest)
        elif kind == "path":
            name, *numbers, seconds = rest.split("|")
            paths.append(Swept(name, *map(int, numbers), float(seconds)))
        ended |= kind == "swept"
    assert ended or violations, f"the stepping program ended early with status {running.wait()}"
    return Sweep(tuple(paths), tuple(violations))


# ------------------------------------------------------------------- what users would see


def _judge(directory: Path, bus_id: int) -> str:
    """ "good", or what is wrong with the state that stands in the files now."""
    try:
        wrong = _damages(directory, bus_id)
        if not wrong:
            wrong = _go_on(directory) + _damages(directory, bus_id)
    except (BusError, OSError) as error:
        wrong = [f"{error!r}"]
    return "; ".join(wrong).replace("\n", " ")[:400] or "good"


def _damages(directory: Path, bus_id: int) -> list[str]:
    path = directory / f"{TOPIC}-0.ctl"
    findings = Findings(path.name)
    expected = Expected(bus_id, TOPIC, 0, bare_values=True)
    hot = read_hot(path, expected, findings)
    if hot:
        check_ring(hot, expected, findings, lambda _: None)
    return [str(damage) for damage in findings.damages]


def _go_on(directory: Path) -> list[str]:
    """The broker's own code frees what the dead had, and seals the segment."""
    hot_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = os.open("bus.ctl", os.O_RDWR, dir_fd=hot_fd)
        control = Table(fd, LAYOUT["sizeof.bus_control"])
        os.close(fd)
        log = Partition(hot_fd, TOPIC, 0, Bells(control), SURVIVOR)
        end = log.log_end_offset
        log.reap_readers(VICTIM, GENERATION)
        log.roll()
        left = [
            f"a reader of the dead is left: {one}" for one in log.readers() if one.client == VICTIM
        ]
        moved = log.log_end_offset != end
        return left + (["the log end moved without a record"] if moved else [])
    finally:
        os.close(hot_fd)
