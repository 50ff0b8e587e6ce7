"""The core's pairs of stores and loads hold in all that C11 allows, and none of them is idle.

`tox -e models` runs more rounds, and breaks every pair (docs/models.md).
"""

from pathlib import Path

import pytest

from tests.litmus.mutations import MUTATIONS
from tests.litmus.weak import TESTS, TIMEOUT_S, build, explore, prepare

ROUNDS = 2_000
#: One that makes each test fail, which the full run shows for all of them.
CHOSEN = (
    "publish has no fence before the other end",
    "bus_durable_end loads the check relaxed",
    "retire has no fence",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("weak"))


@pytest.mark.timeout(TIMEOUT_S)
def test_every_pair_holds_in_all_that_the_memory_model_allows(
    prepared: Path, tmp_path: Path
) -> None:
    verdicts = explore(build(prepared, tmp_path), "all", ROUNDS)
    assert [one for one in verdicts if not one.holds] == []
    assert sorted(one.test for one in verdicts) == TESTS


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", CHOSEN)
def test_a_pair_that_is_too_weak_is_found(prepared: Path, tmp_path: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    program = build(prepared, tmp_path, mutation)
    (verdict,) = explore(program, mutation.test, 50 * ROUNDS)
    assert not verdict.holds
