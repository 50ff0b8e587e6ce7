"""Both fuzz loops under sanitizers, side by side, and docs/fuzz.md.

python -m tests.fuzz [--seconds N] [--seed N] [--page FILE]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.build import ROOT, build_core, build_fuzzer
from tests.fuzz.loops import Run, run_native, run_python


def main() -> int:
    """1 if a loop ended early; then no page is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as pool:
        directory = Path(name)
        (directory / "bus").mkdir()
        program, core = build_fuzzer(directory), build_core(directory)
        native = pool.submit(run_native, program, options.seed, options.seconds)
        python = run_python(directory / "bus", options.seed, options.seconds, core)
        runs = [native.result(), python]
    for run in runs:
        print(run.text if run.code else f"{run.executions} executions", flush=True)
    if options.page and not any(run.code for run in runs):
        options.page.write_text(page(runs, options.seed, options.seconds))
    return int(any(run.code for run in runs))


def page(runs: list[Run], seed: int, seconds: float) -> str:
    """docs/fuzz.md: written only when nothing was found."""
    rows = [f"| {name} | {count} |" for run in runs for name, count in run.counts.items()]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    table = "\n".join(rows)
    return f"""# Fuzz: damaged files, and everybody who reads them

`tox -e fuzz` damages the files of a bus, again and again, and lets everything that reads them read
them: in C the searches, copies and checks of the core; in Python recovery, `bus check`,
`bus dump`, readers, a replica, the tables in shared memory, offsets, JSON files and lines of the
control socket.
Words are replaced where they matter, and half of the damages carry a checksum that holds.

Both loops run under the address and undefined-behaviour sanitizers. A run fails, and no page is
written, if a process dies, reads or writes beyond its memory, hangs, grows without bound, or raises
anything but an error of the bus.

Last run: {datetime.now(UTC).date().isoformat()}, at commit {commit}, seed {seed}, {seconds:g} s
for each loop, side by side on {_processors()} processors. No finding in that run.

| reader | executions |
|---|---|
{table}

Found by it before, and mended, each with a test: a replica that wrote a gap into a place without
room for one, when a hot frame verified with a later offset (`tests/fuzz/test_python_readers.py`).
"""


def _processors() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
