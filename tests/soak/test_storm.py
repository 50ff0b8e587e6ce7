"""One short storm in every run of the tests; the long ones are `tox -e soak`.

BUS_FAULT_SEED gives the seed of a run that failed.
"""

import os
from pathlib import Path

import pytest

from tests.bad_input.places import small_disk
from tests.soak.evidence import evidence
from tests.soak.report import KINDS
from tests.soak.round import Round

STORM_S = 10.0
BYTES_PER_S = 60_000


@pytest.mark.timeout(240)
def test_a_storm_over_everything_violates_nothing(tmp_path: Path) -> None:
    given = os.environ.get("BUS_FAULT_SEED")
    seed = int(given) if given else int.from_bytes(os.urandom(3), "big")
    print(f"BUS_FAULT_SEED={seed}")
    with small_disk(tmp_path / "disk", "300m"):
        storm = Round(0, seed, tmp_path, bytes_per_s=BYTES_PER_S, small=True)
        result = storm.run(STORM_S)
    told = [f"{one}\n{evidence(tmp_path / 'history-0', one)}" for one in result.violations[:10]]
    assert not told, "\n".join(told)
    assert {one.kind for one in result.violations} <= KINDS.keys()
    assert result.acknowledged
    assert result.delivered
