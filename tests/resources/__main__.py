"""All amounts of everything that can run out: python -m tests.resources

Writes a page with --page docs/resources.md. Exit code 0: the bus withstood all of it.
With --keep DIR, files of tests that have passed with these amounts are not run again: a sweep of an
hour may be done in parts, one after the other or beside each other. The page says at which commit
each of them ran.
"""

import argparse
import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.resources.report import ABOUT, Part, Sizes, page

COMMAND = "tox -e resources"


class Tally:
    """Counts what passed."""

    def __init__(self) -> None:
        self.passed: list[float] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed.append(report.duration)


def _commit() -> str:
    """The source that runs, as git names it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def _sizes() -> Sizes:
    """As the tests read them."""
    samples, every, stops = (
        int(os.environ.get(f"BUS_{name}", default))
        for name, default in (
            ("RESOURCE_SAMPLES", "1"),
            ("RESOURCE_EVERY", "1"),
            ("FAULT_STOPS", "4"),
        )
    )
    return Sizes(samples, every, stops)


def _run(file: str, kept: Path, commit: str, sizes: Sizes, rest: list[str]) -> Part | None:
    """One file of tests, or what it did before; None if it did not pass."""
    if kept.exists():
        part = Part(**json.loads(kept.read_text()))
        if part.sizes == dataclasses.astuple(sizes):
            return part
    figures, tally = kept.with_suffix(".figures"), Tally()
    figures.unlink(missing_ok=True)
    os.environ["BUS_RESOURCE_FIGURES"] = str(figures)
    if pytest.main([file, *rest], plugins=[tally]) != pytest.ExitCode.OK:
        return None
    lines = figures.read_text().splitlines() if figures.exists() else []
    values: dict[str, str] = dict(json.loads(line) for line in lines)
    date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    load = os.getloadavg()[1]
    part = Part(commit, dataclasses.astuple(sizes), date, load, tally.passed, values)
    kept.write_text(json.dumps(dataclasses.asdict(part)))
    return part


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.resources", description=__doc__)
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    parser.add_argument("--keep", type=Path, help="a directory for the results of single files")
    parser.add_argument("--only", action="append", choices=ABOUT, help="this file alone")
    options, rest = parser.parse_known_args()
    sizes, commit = _sizes(), _commit()
    with tempfile.TemporaryDirectory() as place:
        keep = options.keep or Path(place)
        keep.mkdir(parents=True, exist_ok=True)
        parts = {
            file: _run(file, keep / f"{Path(file).stem}.json", commit, sizes, rest)
            for file in options.only or ABOUT
        }
    passed = {file: part for file, part in parts.items() if part is not None}
    if len(passed) == len(ABOUT) and options.page:
        options.page.write_text(page(passed, sizes, command=COMMAND))
    return int(len(passed) < len(parts))


if __name__ == "__main__":
    sys.exit(main())
