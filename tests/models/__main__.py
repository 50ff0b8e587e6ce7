"""The full run of the models and of the litmus tests, and docs/models.md.

python -m tests.models [--page FILE]
"""

import argparse
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.litmus import sweep as litmus
from tests.models import sweep as models
from tests.models.report import page


def main() -> int:
    """1 if something does not hold, or a breakage was not found; then no page is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    begin = time.monotonic()
    explored = models.sweep(_say)
    swept = litmus.sweep(_say)
    wrong = [line for one in explored for line in one.violations] + swept.violations
    _say("\n".join(wrong) or "all holds, and every breakage was found")
    if options.page and not wrong:
        took_s = time.monotonic() - begin
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        text = page(explored, swept, date=date, commit=_commit(), took_s=took_s)
        options.page.write_text(text)
    return int(bool(wrong))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
