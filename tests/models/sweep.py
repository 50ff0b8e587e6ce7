"""Explores every model in its full scope, and every model broken at every step."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.models.scopes import full
from tests.models.spin import Exploration, breakages, explore, names


class Explored(NamedTuple):
    """One model: what was found in each scope, and which breakages an error was found with."""

    name: str
    scopes: dict[tuple[str, ...], Exploration]
    found: dict[str, str]
    seconds: float

    @property
    def states(self) -> int:
        """Of all scopes."""
        return sum(one.states for one in self.scopes.values())

    @property
    def violations(self) -> list[str]:
        """What the model does not hold, what was not reached, and breakages that nothing found."""
        wrong = [
            f"{self.name} {' '.join(scope)}: {one.first_error or 'not explored to its end'}"
            for scope, one in self.scopes.items()
            if one.errors or not one.is_complete
        ]
        unreached = set.intersection(*(set(one.unreached) for one in self.scopes.values()))
        wrong += [f"{self.name}: line {line} is never reached" for line in sorted(unreached)]
        missed = [name for name, error in self.found.items() if not error]
        return wrong + [f"{self.name} holds with {name}" for name in missed]


def sweep(said: Callable[[str], object]) -> list[Explored]:
    """All models, as many at once as there are processors; `said` is told of each."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda name: _one(name, said), names()))


def _one(name: str, said: Callable[[str], object]) -> Explored:
    begin = time.monotonic()
    scopes = {scope: _explored(name, scope) for scope in full(name)}
    found = {broken: _error(name, broken) for broken in breakages(name)}
    explored = Explored(name, scopes, found, time.monotonic() - begin)
    said(f"{name}: {explored.states:,} states, {len(found)} breakages, {explored.seconds:.0f} s")
    return explored


def _error(name: str, broken: str) -> str:
    for scope in full(name):
        result = _explored(name, (broken, *scope))
        if result.errors:
            return result.first_error or "an error"
    return ""


def _explored(name: str, defines: Sequence[str]) -> Exploration:
    with tempfile.TemporaryDirectory() as directory:
        return explore(name, Path(directory), *defines, optimise="-O1")
