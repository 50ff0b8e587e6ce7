"""Offsets are reserved in steps, and the state of a partition survives as it was stored."""

from pathlib import Path

import pytest

from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError
from bus.state import (
    OFFSET_RESERVE,
    OFFSET_STEP,
    CleanEnd,
    PartitionState,
    load_state,
    needs_offsets,
    offset_limit_for,
    state_path,
    store_state,
)


@pytest.mark.parametrize("end", [0, 1, OFFSET_STEP - 1, OFFSET_STEP, OFFSET_STEP * 5 + 7])
def test_a_new_limit_leaves_more_than_one_step(end: int) -> None:
    limit = offset_limit_for(end)
    assert limit % OFFSET_STEP == 0
    assert OFFSET_STEP < limit - end <= 2 * OFFSET_STEP
    assert not needs_offsets(end, limit)


def test_the_next_step_is_reserved_before_the_last_one_is_used_up() -> None:
    limit = offset_limit_for(0)
    assert not needs_offsets(limit - OFFSET_RESERVE, limit)
    assert needs_offsets(limit - OFFSET_RESERVE + 1, limit)


@pytest.fixture
def directory(tmp_path: Path) -> BusDirectory:
    directory = BusDirectory.create(tmp_path / "bus")
    directory.topics_path.joinpath("t", "0").mkdir(parents=True, mode=0o700)
    return directory


@pytest.mark.parametrize("clean_end", [None, CleanEnd(7, 3)])
def test_what_was_stored_is_loaded(directory: BusDirectory, clean_end: CleanEnd | None) -> None:
    assert load_state(directory, "t", 0) is None
    state = PartitionState(5, OFFSET_STEP, clean_end)
    store_state(directory, "t", 0, state)
    assert load_state(directory, "t", 0) == state
    directory.close()


def test_a_damaged_state_is_named(directory: BusDirectory) -> None:
    path = directory.path / state_path("t", 0)
    path.write_text('{"log_start_offset": 0}')
    path.chmod(0o600)
    with pytest.raises(CorruptSegmentError, match=r"state\.json is damaged .*copy.* does not"):
        load_state(directory, "t", 0)
    directory.close()
