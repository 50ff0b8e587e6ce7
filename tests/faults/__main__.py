"""Many rounds of the demo under fire: python -m tests.faults [--rounds 50] [--seed N].

Ends at the first round that fails, with everything that is known about it; its seed and number
run it again (`--seed N --only NUMBER`).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.demo_round import DemoRound, Result, RoundFailed
from tests.faults.plan import plan_round
from tests.faults.report import page, text

#: Files of one run: some seconds of work for three workers.
FILES = 120


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--only", type=int, help="number of the one round to run")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    return parser.parse_args()


def _commit() -> str:
    """The source that ran, as git names it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def run_round(seed: int, number: int, files: int) -> Result:
    """One round in a temporary directory. Raises RoundFailed; then the directory stays."""
    place = Path(tempfile.mkdtemp(prefix="bus-faults-"))
    result = DemoRound(plan_round(seed, number), place, files).run()
    shutil.rmtree(place)
    return result


def main() -> int:
    """Exit code 0: every round held; 1: one did not."""
    options = _parse()
    first, count = options.first, options.rounds
    if options.only is not None:
        first, count = options.only, 1
    print(f"seed {options.seed}, {count} rounds of {options.files} files", flush=True)
    results = []
    for number in range(first, first + count):
        try:
            result = run_round(options.seed, number, options.files)
        except RoundFailed as error:
            print(f"FAILED\n{error}", flush=True)
            return 1
        results.append(result)
        killed = ", ".join(f"{times} {role}" for role, times in result.killed.items()) or "nobody"
        print(
            f"{result.plan}\n  {result.seconds:.1f} s, killed {killed}, {result.acknowledged}"
            f" records acknowledged and there, {result.duplicates} duplicates",
            flush=True,
        )
    print(text(results))
    if options.page:
        when = {"date": time.strftime("%Y-%m-%d"), "commit": _commit()}
        options.page.write_text(page(results, seed=options.seed, files=options.files, **when))
    return 0


if __name__ == "__main__":
    sys.exit(main())
