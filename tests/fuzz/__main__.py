"""All fuzz loops under sanitizers, side by side, and docs/fuzz.md.

python -m tests.fuzz [--seconds N] [--seed N] [--workers N] [--page FILE]
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.build import ROOT, build_core, build_fuzzer
from tests.fuzz.loops import Run, run_native, run_python
from tests.power.places import memory_place


def main() -> int:
    """1 if a loop ended early; then no page is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=_processors(), help="loops over Python")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    runs = _run(options.seed, options.seconds, options.workers)
    for run in runs:
        print(run.text if run.code else f"{run.executions} executions", flush=True)
    if any(run.code for run in runs):
        return 1
    if options.page:
        options.page.write_text(page(runs, options.seed, options.seconds))
    return 0


def _run(seed: int, seconds: float, workers: int) -> list[Run]:
    """The loop over the core with that seed, those over Python with it and the next ones.

    Their buses lie in RAM: recoveries and replicas sync, and a disk would take most of the time.
    """
    with memory_place() as place, ThreadPoolExecutor(workers + 1) as pool:
        program, core = build_fuzzer(place), build_core(place)
        native = pool.submit(run_native, program, seed, seconds)
        loops = []
        for number in range(workers):
            directory = place / f"bus-{number}"
            directory.mkdir(mode=0o700)
            loops.append(pool.submit(run_python, directory, seed + number, seconds, core))
        return [native.result(), *(loop.result() for loop in loops)]


def _rows(runs: list[Run]) -> list[str]:
    """A line for each reader, all runs together; those of the core first."""
    counts = sum((Counter(run.counts) for run in runs), Counter())
    lines = [f"| {name} | {count:,} |" for name, count in counts.items()]
    everything = sum(run.executions for run in runs[1:])
    return [*lines, f"| **readers in Python, together** | **{everything:,}** |"]


def page(runs: list[Run], seed: int, seconds: float) -> str:
    """docs/fuzz.md: written only when nothing was found."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    table = "\n".join(_rows(runs))
    loops = len(runs) - 1
    return f"""# Fuzz: damaged files, and everybody who reads them

`tox -e fuzz` damages the files of a bus, again and again, and lets everything that reads them read
them: in C the searches, copies and checks of the core; in Python recovery, `bus check`,
`bus dump`, readers, a replica, the tables in shared memory, offsets, JSON files and lines of the
control socket.
Words are replaced where they matter, and half of the damages carry a checksum that holds.

All loops run under the address and undefined-behaviour sanitizers. A run fails, and no page is
written, if a process dies, reads or writes beyond its memory, hangs, grows without bound, or raises
anything but an error of the bus.

Last run: {datetime.now(UTC).date().isoformat()}, at commit {commit}, seed {seed}, {seconds:g} s:
one loop over the core and {loops} over Python, with this seed and the next ones, side by side on
{_processors()} processors. No finding in that run.

| reader | executions |
|---|---|
{table}

Found by it before, and mended, each with a test: a replica that wrote a gap into a place without
room for one, when a hot frame verified with a later offset (`tests/fuzz/test_python_readers.py`); a
`bus.json` of brackets within brackets, at which a bus was not opened though the copy beside it was
good (`tests/unit/test_files.py`).
"""


def _processors() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
