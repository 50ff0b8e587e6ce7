"""All amounts of everything that can run out: python -m tests.resources

Writes a page with --page docs/resources.md. Exit code 0: the bus withstood all of it.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

from tests.resources.report import ABOUT, page

COMMAND = "tox -e resources"


class Tally:
    """Counts what passed, by file."""

    def __init__(self) -> None:
        self.passed: dict[str, list[float]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed[report.nodeid.partition("::")[0]].append(report.duration)


def _commit() -> str:
    """The source that ran, as git names it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.resources", description=__doc__)
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    options, rest = parser.parse_known_args()
    tally, commit = Tally(), _commit()
    with tempfile.TemporaryDirectory() as place:
        figures = Path(place, "figures")
        os.environ["BUS_RESOURCE_FIGURES"] = str(figures)
        code = pytest.main([*ABOUT, *rest], plugins=[tally])
        lines = figures.read_text().splitlines() if figures.exists() else []
    if code == pytest.ExitCode.OK and options.page:
        values: dict[str, str] = dict(json.loads(line) for line in lines)
        date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
        options.page.write_text(
            page(tally.passed, list(values.items()), date=date, commit=commit, command=COMMAND)
        )
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
