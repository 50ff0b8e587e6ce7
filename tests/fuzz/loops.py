"""Runs the two fuzz loops, as programs of their own: a crash is an exit code."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.build import libasan

_ROOT = Path(__file__).resolve().parents[2]
#: What is allowed beyond the time of the loop, in seconds: importing, and the last execution.
_GRACE_S = 180
#: The interpreter itself leaks what it never frees; a size from a damaged file must not end it.
_ASAN = "detect_leaks=0:allocator_may_return_null=1:hard_rss_limit_mb=3000"


@dataclass(frozen=True)
class Run:
    """One run of a loop: its exit code, what it printed, and executions by reader."""

    code: int
    text: str
    counts: dict[str, int]

    @property
    def executions(self) -> int:
        """Of all readers."""
        return sum(count for name, count in self.counts.items() if name != "typed errors")


def run_python(directory: Path, seed: int, seconds: float, core: Path | None = None) -> Run:
    """The loop over Python's readers, with the installed core or with a sanitized one."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.python_readers"]
    command += [str(directory), str(seed), str(seconds)]
    environment = dict(os.environ)
    if core is not None:
        command.append(str(core))
        environment |= {"LD_PRELOAD": libasan(), "ASAN_OPTIONS": _ASAN, "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + _GRACE_S,
    )
    counts = {name: int(n) for name, n in re.findall(r"^([^:\n]+): (\d+)$", done.stdout, re.M)}
    return Run(done.returncode, f"{done.stdout}\n{done.stderr}", counts)


def run_native(program: Path, seed: int, seconds: float) -> Run:
    """The loop over the core's readers."""
    done = subprocess.run(
        [str(program), str(seed), str(round(seconds))],
        capture_output=True,
        text=True,
        timeout=seconds + _GRACE_S,
        env=os.environ | {"ASAN_OPTIONS": "hard_rss_limit_mb=1024"},
    )
    executions = int(done.stdout.split()[0]) if done.returncode == 0 else 0
    return Run(done.returncode, f"{done.stdout}\n{done.stderr}", {"the core": executions})
