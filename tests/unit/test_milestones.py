"""A state gets its note when the disk has answered, and only if nobody replaced it meanwhile."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from bus.milestones import note_durable
from bus.state import CleanEnd, PartitionState
from bus.syncer import PROBE

BEFORE = PartitionState(0, 1 << 24)
NOTED = replace(BEFORE, durable_end=CleanEnd(7, 1))


class Rig:
    """One partition with seven durable records, and a syncer that is asked for it."""

    def __init__(self) -> None:
        log = SimpleNamespace(high_watermark=7, tail=(1, 4096), log_start_offset=0)
        self.partition: Any = SimpleNamespace(name="t-0", is_replicated=True, log=log, state=BEFORE)
        self.partitions = [self.partition]
        self.syncer = Mock(is_busy=False)
        self.stored: list[PartitionState] = []

    def note(self) -> Any:
        """What the syncer is to call with the disk's answer."""
        note_durable(self.partitions, lambda _, state: self.stored.append(state), self.syncer)
        (names, answered), _ = self.syncer.ask.call_args
        assert names == [PROBE]
        return answered


def test_a_note_is_written_when_the_disk_has_answered() -> None:
    rig = Rig()
    answered = rig.note()
    assert rig.stored == []
    answered({PROBE: None})
    assert rig.stored == [NOTED]


def test_what_was_seen_then_is_noted_whatever_the_hot_log_says_later() -> None:
    rig = Rig()
    answered = rig.note()
    rig.partition.log.high_watermark = 1 << 60
    answered({PROBE: None})
    assert rig.stored == [NOTED]


@pytest.mark.parametrize("outcome", [{PROBE: "Input/output error"}, {}])
def test_without_an_answer_nothing_is_written(outcome: dict[str, str | None]) -> None:
    rig = Rig()
    rig.note()(outcome)
    assert rig.stored == []


def test_a_state_that_was_replaced_meanwhile_stays_and_a_deleted_topic_gets_none() -> None:
    replaced, deleted = Rig(), Rig()
    answers = [replaced.note(), deleted.note()]
    replaced.partition.state = replace(BEFORE, clean_end=CleanEnd(7, 1))
    deleted.partitions.clear()
    for answered in answers:
        answered({PROBE: None})
    assert replaced.stored == deleted.stored == []


def test_a_syncer_that_waits_for_the_disk_is_not_asked() -> None:
    rig = Rig()
    rig.syncer.is_busy = True
    note_durable(rig.partitions, Mock(), rig.syncer)
    rig.syncer.ask.assert_not_called()
