"""Every pair in many rounds, and every pair broken once; and the pairs on this processor."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.litmus import pairs, weak
from tests.litmus.mutations import MUTATIONS

ROUNDS: Final = 100_000
ROUNDS_OF_A_MUTATION: Final = 200_000
#: each pair on this processor, as threads and as processes
SECONDS: Final = 2.0
CONTROL_SECONDS: Final = 60.0


class Swept(NamedTuple):
    """What Relacy says of the tests and of each mutation, and what this processor showed."""

    verdicts: list[weak.Verdict]
    found: dict[str, weak.Verdict]
    outcomes: dict[tuple[str, str], pairs.Outcome]

    @property
    def violations(self) -> list[str]:
        """Tests that do not hold, mutations that nothing found, outcomes that may not be."""
        wrong = [f"{one.test}: {one.what}" for one in self.verdicts if not one.holds]
        wrong += [f"not found: {name}" for name, one in self.found.items() if one.holds]
        for (pair, kind), outcome in self.outcomes.items():
            if (outcome.forbidden > 0) != (pair == pairs.CONTROL):
                wrong.append(f"{pair}, {kind}: {outcome.forbidden} forbidden outcomes")
        return wrong


def sweep(said: Callable[[str], object]) -> Swept:
    """All of it; `said` is told of each part."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "common").mkdir()
        prepared = weak.prepare(directory / "common", "-O1")
        verdicts = weak.explore(_build(prepared, directory, ""), "all", ROUNDS)
        said(f"weak memory: {len(verdicts)} tests of {ROUNDS:,} rounds")
        found = {one: _broken(prepared, directory, one) for one in MUTATIONS}
        said(f"weak memory: {len(found)} pairs broken")
        outcomes = _on_this_processor(directory)
        said(f"this processor: {len(outcomes)} pairs")
    return Swept(verdicts, found, outcomes)


def _build(prepared: Path, directory: Path, name: str) -> Path:
    place = Path(tempfile.mkdtemp(dir=directory))
    return weak.build(prepared, place, MUTATIONS.get(name))


def _broken(prepared: Path, directory: Path, name: str) -> weak.Verdict:
    program = _build(prepared, directory, name)
    return weak.explore(program, MUTATIONS[name].test, ROUNDS_OF_A_MUTATION)[0]


def _on_this_processor(directory: Path) -> dict[tuple[str, str], pairs.Outcome]:
    program = [str(pairs.build(directory))]
    return {
        (pair, kind): pairs.run(
            program, kind, pair, CONTROL_SECONDS if pair == pairs.CONTROL else SECONDS
        )
        for pair in (pairs.CONTROL, *pairs.PAIRS)
        for kind in pairs.KINDS
    }
