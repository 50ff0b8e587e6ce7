"""Every damage to every file of a bus at rest, with and without a repair: `tox -e damage`.

    python -m tests.damage [--seeds N] [--every N] [--minutes N] [--page docs/damage.md]

The three ways of coming to rest run side by side, each with a bus of its own, in an order that
mixes files and deeds, so that a run which is cut short has tried some of each. Fails, and writes no
page, if anything was lost in silence.
"""

import argparse
import math
import multiprocessing
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from random import Random

from tests.damage.rest_bus import HOW, RestingBus
from tests.damage.rest_faults import Fault, doubles, singles
from tests.damage.rest_report import Row, Run, page, summary
from tests.damage.rest_trial import Outcome, run
from tests.power.places import memory_place

#: A machine that is busy with other things may keep a broker from its deadlines once, not always.
TRIES = 3


def main() -> int:
    options = _options()
    began_s = time.monotonic()
    with multiprocessing.get_context("fork").Pool(len(HOW)) as pool:
        parts = pool.starmap(_sweep, [(how, options) for how in HOW])
    rows = [row for part, _ in parts for row in part]
    print(summary(rows))
    wrong = [row for row in rows if row.wrong]
    for row in wrong:
        print(f"WRONG {row.name}: {row.wrong}")
    if wrong:
        return 1
    if options.page:
        took_s = time.monotonic() - began_s
        commit = _git("rev-parse", "--short", "HEAD")
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        command = f"python -m tests.damage --seeds {options.seeds} --every {options.every}"
        if options.minutes:
            command += f" --minutes {options.minutes:g}"
        last = Run(date, commit, command, took_s, sum(possible for _, possible in parts))
        options.page.write_text(page(rows, last))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=2, help="places tried for each deed")
    parser.add_argument("--every", type=int, default=1, help="try each N-th fault only")
    parser.add_argument("--minutes", type=float, help="begin no trial later than that")
    parser.add_argument("--page", type=Path, help="where to write the results")
    return parser.parse_args()


def _sweep(how: str, options: argparse.Namespace) -> tuple[list[Row], int]:
    """The trials, and how many there could have been."""
    end_s = time.monotonic() + 60 * options.minutes if options.minutes else math.inf
    with memory_place() as root:  # a disk that is waited for proves nothing here
        return _trials(RestingBus.build(root / "bus", how), options, end_s)


def _trials(bus: RestingBus, options: argparse.Namespace, end_s: float) -> tuple[list[Row], int]:
    try:
        faults = [*singles(bus, options.seeds), *doubles(bus, options.seeds)]
        trials = [(fault, repair) for fault in faults[:: options.every] for repair in (False, True)]
        Random(bus.how).shuffle(trials)
        rows = [
            _row(bus, *trial) for trial in takewhile(lambda _: time.monotonic() < end_s, trials)
        ]
        return rows, 2 * len(faults)
    finally:
        bus.clear()


def _row(bus: RestingBus, fault: Fault, repair: bool) -> Row:
    for tries in range(1, TRIES + 1):
        try:
            outcome = run(bus, fault, repair=repair)
        except Exception as error:  # noqa: BLE001 - the sweep goes on, and fails at its end
            outcome = Outcome(fault, repair, wrong=[f"{type(error).__name__}: {error}"])
        if not any("BusTimeoutError" in one for one in outcome.wrong):
            break
        print(f"LATE ({tries}) {fault} {'repaired' if repair else ''}", flush=True)
    if outcome.wrong:
        print(f"WRONG {fault} {'repaired' if repair else ''}: {outcome.wrong}", flush=True)
    return Row.of(outcome)


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
