"""Storms for so many minutes: python -m tests.soak [--minutes 5] [--seed N].

Ends at the first round with a violation; then its directory is kept, and its seed and number run
it again (`--seed N --only NUMBER`).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.bad_input.places import small_disk
from tests.soak.evidence import evidence
from tests.soak.report import page, text
from tests.soak.round import Result, Round

#: Of the filesystem that the bus directory is on.
DISK: Final = "700m"
ROUND_S: Final = 60.0
_SHOWN: Final = 10
_LINE_S: Final = 60.0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", type=int, help="number of the one round to run")
    parser.add_argument("--round-seconds", type=float, default=ROUND_S)
    parser.add_argument("--page", type=Path, help="write the counts to this Markdown file")
    return parser.parse_args()


class Progress:
    """A bar on a terminal, a line a minute elsewhere; on stderr."""

    def __init__(self, minutes: float) -> None:
        self.results: list[Result] = []
        self._began = self._told = time.monotonic()
        self._seconds = minutes * 60
        self._draws = sys.stderr.isatty()

    def tick(self) -> None:
        """Called again and again."""
        now = time.monotonic()
        if now - self._told < (1.0 if self._draws else _LINE_S):
            return
        self._told = now
        done = min((now - self._began) / max(self._seconds, 1), 1.0)
        sent = sum(result.sent for result in self.results)
        line = f"{done:4.0%}, {len(self.results)} rounds, {sent} records sent, 0 violations"
        if self._draws:
            bar = "#" * int(done * 30)
            sys.stderr.write(f"\r[{bar:<30}] {line} ")
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _commit() -> str:
    """The source that ran, as git names it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def _accuse(result: Result, place: Path, seed: int) -> None:
    """Everything that is known about a round with violations."""
    shutil.copytree(place / "disk", place / "kept", ignore_dangling_symlinks=True)
    print(f"VIOLATED: {len(result.violations)} times in round {result.number}")
    for violation in result.violations[:_SHOWN]:
        print(f"{violation}\n{evidence(place / f'history-{result.number}', violation)}")
    print(
        f"all of it is in {place}; run it again with:"
        f" python -m tests.soak --seed {seed} --only {result.number}",
        flush=True,
    )


def _storm(options: argparse.Namespace, place: Path, progress: Progress) -> bool:
    """Round after round; False as soon as something is violated."""
    until = time.monotonic() + options.minutes * 60
    number = options.only or 0
    with small_disk(place / "disk", DISK):
        while True:
            storm = Round(number, options.seed, place)
            result = storm.run(options.round_seconds, progress.tick)
            progress.results.append(result)
            print(
                f"round {number}: {result.seconds:.0f} s, {result.sent} records sent,"
                f" {result.acknowledged} acknowledged, {result.delivered} delivered,"
                f" {result.actions.total()} actions, {len(result.violations)} violations",
                flush=True,
            )
            if result.violations:
                _accuse(result, place, options.seed)
                return False
            shutil.rmtree(place / f"history-{number}")
            if options.only is not None or time.monotonic() >= until:
                return True
            number += 1


def main() -> int:
    """Exit code 0: nothing was violated; 1: something was."""
    options = _parse()
    place = Path(tempfile.mkdtemp(prefix="bus-soak-"))
    print(f"seed {options.seed}, {options.minutes:g} minutes, in {place}", flush=True)
    when = {"date": time.strftime("%Y-%m-%d"), "commit": _commit()}
    progress = Progress(options.minutes)
    if not _storm(options, place, progress):
        return 1
    shutil.rmtree(place)
    print(text(progress.results))
    if options.page:
        minutes, seed = options.minutes, options.seed
        options.page.write_text(page(progress.results, seed=seed, minutes=minutes, **when))
    return 0


if __name__ == "__main__":
    sys.exit(main())
