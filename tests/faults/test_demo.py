"""Killing any process of the demo at random moments loses nothing and leaves nothing hanging.

Three rounds here; fifty by `tox -e faults`. BUS_FAULT_SEED gives the seed of a run that failed.
"""

import os
from pathlib import Path

import pytest

from tests.faults.demo_round import DemoRound
from tests.faults.plan import KEPT, ORPHANED, OWN, plan_round

#: Files of one run: enough that kills fall into the work, few enough for every run of the tests.
FILES = 60


@pytest.fixture(scope="module")
def seed() -> int:
    given = os.environ.get("BUS_FAULT_SEED")
    return int(given) if given else int.from_bytes(os.urandom(3), "big")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(3))
def test_killing_any_process_of_the_demo_loses_nothing_and_leaves_nothing(
    seed: int, number: int, tmp_path: Path
) -> None:
    print(f"BUS_FAULT_SEED={seed}")
    result = DemoRound(plan_round(seed, number), tmp_path, FILES).run()
    assert result.acknowledged or result.plan.kills[0].after == 0.0


def test_a_plan_is_the_same_for_the_same_seed_and_covers_every_kind() -> None:
    plans = [plan_round(1, number) for number in range(50)]
    assert plans == [plan_round(1, number) for number in range(50)]
    assert {plan.kind for plan in plans} == {KEPT, OWN, ORPHANED}
    roles = {kill.role for plan in plans for kill in plan.kills}
    assert roles == {"broker", "replica", "worker", "main", "all"}
    assert {plan.kind for plan in plans[:3]} == {KEPT, OWN, ORPHANED}
