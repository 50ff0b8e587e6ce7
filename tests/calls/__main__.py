"""Every system call of a broker and its replicas fails, and is the last: python -m tests.calls

Writes a page with --page docs/calls.md. Exit code 0: the bus withstood all of it; 1: it did not.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.calls.injector import EVERYTHING, Injection, injector
from tests.calls.plan import Target, targets
from tests.calls.report import page
from tests.calls.trial import ADOPTED, COLD, Outcome, Trial

#: The process that all workers are forked from.
MAIN = os.getpid()
_trials: dict[int, Trial] = {}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.calls", description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=int, default=1, help="one target of so many")
    parser.add_argument("--call", help="this call only")
    parser.add_argument("--who", type=int, help="this process only: 0 is the broker")
    parser.add_argument("--scenario", help="the one whose name begins like this")
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    return parser.parse_args()


def _trial() -> Trial:
    """This process's own place; made at the first use."""
    if os.getpid() not in _trials:
        prefix = f"bus-calls-{MAIN}-"
        _trials[os.getpid()] = Trial(Path(tempfile.mkdtemp(prefix=prefix)))
    return _trials[os.getpid()]


def _leave() -> None:
    """Takes the places of all workers along."""
    for place in Path(tempfile.gettempdir()).glob(f"bus-calls-{MAIN}-*"):
        shutil.rmtree(place, ignore_errors=True)


def run(target: Target) -> Outcome:
    """One trial, in a worker process."""
    outcome = _trial().run(target.scenario, target.injection)
    outcome.report = None
    return outcome


def _commit() -> str:
    """The source that ran, as git names it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def plan() -> Iterator[Target]:
    """All targets: the broker and two of its replicas in a life, the broker in an adoption."""
    for scenario, processes in ((COLD, (0, 1, 4, 5)), (ADOPTED, (0,))):
        trial = _trial()
        outcome = trial.run(scenario, Injection(who=EVERYTHING))
        assert not outcome.wrong, outcome.wrong
        assert outcome.report is not None
        yield from targets(scenario, outcome.report.calls, processes)


def main() -> int:
    options = _parse()
    started = time.monotonic()
    injector()
    chosen = [
        one
        for one in plan()
        if options.call in (None, one.injection.call)
        and options.who in (None, one.injection.who)
        and one.scenario.startswith(options.scenario or "")
    ]
    random.Random(1).shuffle(chosen)
    chosen = chosen[:: options.every]
    print(f"{len(chosen)} trials", flush=True)
    outcomes = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("fork")) as pool:
        for number, outcome in enumerate(pool.map(run, chosen), 1):
            outcomes.append(outcome)
            if outcome.wrong:
                print(f"[{number}] {outcome.scenario}: {outcome.injection} ({outcome.hit})")
                print("    " + "\n    ".join(outcome.wrong), flush=True)
                print("    refused: " + "; ".join(outcome.refused))
                print("    " + "\n    ".join(outcome.log.splitlines()[-25:]), flush=True)
            if number % 100 == 0:
                print(f"{number} of {len(chosen)}, {time.monotonic() - started:.0f} s", flush=True)
    repeated = [number for number, one in enumerate(outcomes) if one.is_late]
    for number in repeated:  # alone now: one that fails again is a violation
        outcomes[number] = run(chosen[number])
        print(f"again: {outcomes[number].injection}: {outcomes[number].wrong}", flush=True)
    if options.page:
        command = " ".join(["python -m tests.calls", *sys.argv[1:]])
        date = time.strftime("%Y-%m-%d")
        options.page.write_text(
            page(outcomes, len(repeated), date=date, commit=_commit(), command=command)
        )
    bad = sum(bool(one.wrong) for one in outcomes)
    print(f"{len(outcomes)} trials, {bad} bad, {time.monotonic() - started:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        _leave()
