"""On this processor no pair of the core shows what it forbids, between threads or processes.

On x86 only store buffering can be seen, and is, where the fences are left out. What other
processors do is for `test_weak_memory.py`.
"""

import os
from pathlib import Path

import pytest

from tests.litmus.pairs import CONTROL, KINDS, PAIRS, build, run

#: `tox -e models` runs each pair for so many seconds.
SECONDS = 5.0 if os.environ.get("BUS_MODELS") == "all" else 0.1
#: The control ends at its first forbidden outcome, within milliseconds on an idle machine.
CONTROL_SECONDS = 60.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_fences_store_buffering_is_seen(program: Path, kind: str) -> None:
    assert run([str(program)], kind, CONTROL, CONTROL_SECONDS).forbidden > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", PAIRS)
def test_no_pair_shows_what_it_forbids(program: Path, pair: str, kind: str) -> None:
    outcome = run([str(program)], kind, pair, SECONDS)
    assert outcome.rounds > 0
    assert outcome.forbidden == 0
