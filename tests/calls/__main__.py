"""Every system call of a broker and its replicas fails, and is the last: python -m tests.calls

Writes a page with --page docs/calls.md. Exit code 0: the bus withstood all of it; 1: it did not.
"""

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from tests.buses import SHARED_MEMORY
from tests.calls.injector import EVERYTHING, Injection, injector
from tests.calls.plan import Target, targets
from tests.calls.report import Run, page
from tests.calls.trial import ADOPTED, COLD, Outcome, Trial

#: The process that all workers are forked from.
MAIN = os.getpid()
_trials: dict[int, Trial] = {}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.calls", description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=int, default=1, help="one target of so many")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no trial begins later")
    parser.add_argument("--call", help="this call only")
    parser.add_argument("--who", type=int, help="this process only: 0 is the broker")
    parser.add_argument("--scenario", help="the one whose name begins like this")
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    return parser.parse_args()


def _trial() -> Trial:
    """This process's own place, in RAM: nobody waits for a disk. Made at the first use."""
    if os.getpid() not in _trials:
        place = tempfile.mkdtemp(prefix=f"bus-calls-{MAIN}-", dir=SHARED_MEMORY)
        _trials[os.getpid()] = Trial(Path(place))
    return _trials[os.getpid()]


def _leave() -> None:
    """Takes the places of all workers along."""
    for place in SHARED_MEMORY.glob(f"bus-calls-{MAIN}-*"):
        shutil.rmtree(place, ignore_errors=True)


def run(target: Target, until: float = math.inf) -> Outcome | None:
    """One trial, in a worker process; none if it is later than that."""
    if time.monotonic() > until:
        return None
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
    """All targets, of the broker and of all that it forks: in a life, and in an adoption."""
    for scenario in (COLD, ADOPTED):
        trial = _trial()
        outcome = trial.run(scenario, Injection(who=EVERYTHING))
        assert not outcome.wrong, outcome.wrong
        assert outcome.report is not None
        calls = outcome.report.calls
        yield from targets(scenario, calls, {call.who for call in calls})


def _chosen(options: argparse.Namespace) -> tuple[list[Target], int]:
    """The targets that were asked for, mixed, and how many there are in all."""
    found = list(plan())
    chosen = [
        one
        for one in found
        if options.call in (None, one.injection.call)
        and options.who in (None, one.injection.who)
        and one.scenario.startswith(options.scenario or "")
    ]
    random.Random(1).shuffle(chosen)
    return chosen[:: options.every], len(found)


def _tell(number: int, outcome: Outcome) -> None:
    if outcome.wrong:
        print(f"[{number}] {outcome.scenario}: {outcome.injection} ({outcome.hit})")
        print("    " + "\n    ".join(outcome.wrong), flush=True)
        print("    refused: " + "; ".join(outcome.refused))
        print("    " + "\n    ".join(outcome.log.splitlines()[-25:]), flush=True)


def _sweep(chosen: list[Target], options: argparse.Namespace) -> list[Outcome]:
    """One outcome for each target, as far as the time allows."""
    started = time.monotonic()
    until = started + 60 * options.minutes
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("fork")) as pool:
        for number, outcome in enumerate(pool.map(run, chosen, repeat(until)), 1):
            if outcome is None:
                break
            outcomes.append(outcome)
            _tell(number, outcome)
            if number % 100 == 0:
                print(f"{number} of {len(chosen)}, {time.monotonic() - started:.0f} s", flush=True)
    return outcomes


def _again(target: Target) -> Outcome:
    """Alone now: one that fails again is a violation."""
    outcome = run(target)
    assert outcome is not None, "there is no limit to its time"
    print(f"again: {outcome.injection}: {outcome.wrong}", flush=True)
    return outcome


def main() -> int:
    options = _parse()
    started = time.monotonic()
    injector()
    chosen, possible = _chosen(options)
    print(f"{len(chosen)} of {possible} trials", flush=True)
    outcomes = _sweep(chosen, options)
    repeated = [number for number, one in enumerate(outcomes) if one.is_late]
    for number in repeated:
        outcomes[number] = _again(chosen[number])
    if options.page:
        command = " ".join(["python -m tests.calls", *sys.argv[1:]])
        last = Run(
            date=time.strftime("%Y-%m-%d"),
            commit=_commit(),
            command=command,
            possible=possible,
            repeated=len(repeated),
        )
        options.page.write_text(page(outcomes, last))
    bad = sum(bool(one.wrong) for one in outcomes)
    print(f"{len(outcomes)} trials, {bad} bad, {time.monotonic() - started:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        _leave()
