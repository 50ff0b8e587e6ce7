"""The full sweep, and docs/steps.md.

    python -m tests.steps [--page FILE] [--grid N] [--later-grid N] [--third-grid N]
                          [--ack-grid N] [--python-grid N]

Kills before every instruction of every native path, and again in the next append, from each state
that a death has left: a double fault. On the shortest paths a third time. Larger grids are quicker,
and the page says which ones were used.
"""

import argparse
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.steps import ack_sweep, python_paths
from tests.steps.native_sweep import ROOT, Sweep, build, sweep
from tests.steps.report import page

TIMEOUT_S = 4 * 3600.0
#: paths with a second death from every state of the first
DOUBLE = (
    "append one record",
    "append a batch",
    "roll into a fresh spare",
    "roll around a pin",
    "retire before",
    "attach",
    "raise",
)
#: paths whose states of two deaths are few enough for a third one from each of them
TRIPLE = ("append one record", "repair a dead holder's lock")


def main() -> int:
    """1 if a promise was broken; then no page is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--grid", default="1", help="first deaths at every so many")
    parser.add_argument("--later-grid", default="16", help="second deaths at every so many")
    parser.add_argument("--third-grid", default="256", help="third deaths at every so many")
    parser.add_argument("--ack-grid", default="1", help="the same, in share groups' ack tables")
    parser.add_argument("--python-grid", default="2", help="the same, second ones of Python paths")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        python = python_paths.run(Path(name), later=int(options.python_grid))
        sweeps = run(Path(name), options)
    wrong = [line for one in (*python, *sweeps.values()) for line in one.violations]
    print("\n".join(wrong) or "no violations")
    if options.page and not wrong:
        grids = (options.grid, options.later_grid, options.third_grid, options.python_grid)
        text = page(sweeps, python, grids=grids, **_when())
        options.page.write_text(text)
    return int(bool(wrong))


def run(directory: Path, options: argparse.Namespace) -> dict[str, Sweep]:
    """Every sweep by its name."""
    program = build(directory)

    def swept(name: str, *words: str) -> Sweep:
        found = sweep(program, directory / name.replace("/", " "), *words, timeout_s=TIMEOUT_S)
        print(f"{name}: {sum(one.kills for one in found.paths)} kills", flush=True)
        return found

    def together(deaths: int, paths: tuple[str, ...], grid: str, later: str) -> Sweep:
        words = ("--deaths", str(deaths), "--grid", grid, "--later-grid", later)
        found = [swept(f"{deaths} deaths, {one}", "--path", one, *words) for one in paths]
        return Sweep(
            tuple(path for one in found for path in one.paths),
            tuple(line for one in found for line in one.violations),
        )

    def acks() -> Sweep:
        program = ack_sweep.build(directory)
        return ack_sweep.sweep(program, "--grid", options.ack_grid, timeout_s=TIMEOUT_S)

    return {
        "one": swept("one death", "--grid", options.grid, "--ask", "--long"),
        "two": together(2, DOUBLE, "64", options.later_grid),
        "three": together(3, TRIPLE, "64", options.third_grid),
        "acks": acks(),
    }


def _when() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {"date": datetime.now(UTC).date().isoformat(), "commit": commit.stdout.strip()}


if __name__ == "__main__":
    sys.exit(main())
