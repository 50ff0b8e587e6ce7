"""Power is cut between any two operations on the disk, with any part of what was not synced kept.

`tox -e power` cuts thousands of times (docs/power.md). A failure names its seed and its number:

    python -m tests.power --seed SEED --only NUMBER
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power.images import Cutter, record
from tests.power.places import memory_place
from tests.power.workload import Life

SEEDS = (1, 2, 3)
#: Of each seed; every third one is cut twice more, in its recovery.
IMAGES = 30
STEPS = 150
#: A disk that does not sync loses something in one of so many images.
CONTROL_IMAGES = 12


@pytest.fixture
def place() -> Iterator[Path]:
    logging.disable(logging.ERROR)  # recovery tells what it cut, hundreds of times
    with memory_place() as found:
        yield found
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_power_loss_takes_what_was_acknowledged(place: Path, seed: int) -> None:
    cutter = Cutter(record(place, seed, STEPS), place, seed)
    for number in range(IMAGES):
        failure = cutter.cut(number)
        assert failure is None, failure
    assert cutter.images > IMAGES  # some were cut again, in their recovery


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sync", ["fdatasync", "fsync", "directory"])
def test_a_disk_that_ignores_a_kind_of_sync_is_found_out(place: Path, sync: str) -> None:
    cutter = Cutter(record(place, 1, STEPS, frozenset({sync})), place, 1)
    failures = [cutter.cut(number) for number in range(CONTROL_IMAGES)]
    assert sum(failure is not None for failure in failures) >= CONTROL_IMAGES // 4


def test_an_image_comes_out_the_same_for_the_same_seed_and_number(place: Path) -> None:
    tapes = []
    for name in ("one", "other"):
        (place / name).mkdir()
        tape = record(place / name, 1, STEPS).tape
        tapes.append([type(operation).__name__ for operation in tape])
    assert tapes[0] == tapes[1]


def test_a_kill_that_is_still_to_come_when_the_power_goes_does_not_come(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live_on_the_brink(life: Life, _steps: int) -> None:
        life._start()
        life._recorder.kill_at = 0

    monkeypatch.setattr(Life, "run", live_on_the_brink)
    assert record(place, 1, STEPS).tape
