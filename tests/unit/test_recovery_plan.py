"""A recovery plan never repeats an offset, never cuts what was acknowledged, names the gap."""

from dataclasses import replace

from bus.recovery import RecoveryPlan, Tail, plan_recovery
from bus.state import CleanEnd, PartitionState, offset_limit_for

LIMIT = offset_limit_for(0)
RUNNING = PartitionState(0, LIMIT)
STOPPED = PartitionState(0, LIMIT, CleanEnd(150, 4))
TAIL = Tail(
    base_offset=100,
    number=4,
    previous_end=100,
    header_end_offset=0,
    end_position=20_000,
    next_offset=150,
    sealed=False,
)


def plan(state: PartitionState | None, tail: Tail | None) -> RecoveryPlan:
    bases = [0, 50, tail.base_offset] if tail else []
    return plan_recovery(state, bases, tail)


def test_a_new_partition_begins_at_zero() -> None:
    made = plan(None, None)
    assert (made.base_offset, made.previous_end, made.number) == (0, 0, 1)
    assert made.log_start_offset == 0
    assert made.state == PartitionState(0, LIMIT)


def test_after_a_clean_stop_the_log_goes_on_where_it_ended() -> None:
    made = plan(STOPPED, TAIL)
    assert (made.base_offset, made.previous_end, made.number) == (150, 150, 5)
    assert made.seal_position == 20_000
    assert not made.remove_tail


def test_after_a_power_loss_the_log_goes_on_at_the_reserved_limit() -> None:
    made = plan(RUNNING, TAIL)
    assert (made.base_offset, made.previous_end, made.number) == (LIMIT, 150, 5)
    assert made.state.offset_limit > LIMIT
    assert made.state.clean_end is None


def test_a_clean_end_below_what_the_files_hold_is_not_believed() -> None:
    made = plan(STOPPED, replace(TAIL, next_offset=160))
    assert (made.base_offset, made.previous_end) == (LIMIT, 160)


def test_a_clean_end_in_a_segment_without_records_is_believed() -> None:
    made = plan(replace(STOPPED, clean_end=CleanEnd(LIMIT, 5)), TAIL)
    assert (made.base_offset, made.previous_end) == (LIMIT, 150)


def test_the_base_is_never_below_what_the_files_hold() -> None:
    made = plan(replace(RUNNING, offset_limit=120), TAIL)
    assert made.base_offset == 150


def test_a_sealed_tail_is_left_alone() -> None:
    made = plan(STOPPED, replace(TAIL, sealed=True, header_end_offset=150))
    assert made.seal_position is None
    assert made.base_offset == 150


def test_a_tail_with_an_end_frame_and_no_seal_is_sealed() -> None:
    made = plan(STOPPED, replace(TAIL, sealed=True))
    assert made.seal_position == TAIL.end_position


def test_a_tail_without_a_record_goes_and_its_gap_stays_known() -> None:
    empty = replace(TAIL, next_offset=100, previous_end=90)
    made = plan(replace(STOPPED, clean_end=CleanEnd(100, 4)), empty)
    assert made.remove_tail
    assert (made.base_offset, made.previous_end, made.number) == (100, 90, 5)
    assert made.seal_position is None


def test_rot_in_a_sealed_tail_is_never_cut() -> None:
    rotten = replace(TAIL, header_end_offset=200, error="wrong checksum")
    made = plan(RUNNING, rotten)
    assert rotten.is_rotten
    assert made.seal_position is None
    assert not made.remove_tail
    assert (made.base_offset, made.previous_end) == (LIMIT, 200)


def test_rot_in_the_first_frame_of_a_sealed_tail_does_not_remove_it() -> None:
    rotten = replace(TAIL, header_end_offset=200, next_offset=100, error="wrong checksum")
    assert not plan(RUNNING, rotten).remove_tail


def test_a_memory_topic_goes_on_after_its_clean_end_or_its_limit() -> None:
    clean = plan(PartitionState(70, LIMIT, CleanEnd(70, 9)), None)
    assert (clean.base_offset, clean.log_start_offset, clean.number) == (70, 70, 10)
    killed = plan(RUNNING, None)
    assert (killed.base_offset, killed.log_start_offset, killed.number) == (LIMIT, LIMIT, 1)


def test_durable_files_without_a_state_are_never_overwritten() -> None:
    made = plan(None, TAIL)
    assert made.base_offset == 150
    assert made.number == 5


def test_the_log_start_is_the_oldest_segment_or_what_was_deleted_up_to() -> None:
    assert plan_recovery(RUNNING, [30, 100], TAIL).log_start_offset == 30
    assert (
        plan_recovery(replace(RUNNING, log_start_offset=60), [30, 100], TAIL).log_start_offset == 60
    )


def test_a_lost_oldest_segment_does_not_move_the_log_start_over_its_records() -> None:
    state = replace(RUNNING, log_start_offset=10)
    assert plan_recovery(state, [30, 100], TAIL, before_first=30).log_start_offset == 10
    assert plan_recovery(state, [30, 100], TAIL, before_first=10).log_start_offset == 30


def test_planning_again_after_acting_changes_nothing_more() -> None:
    first = plan(RUNNING, TAIL)
    again = plan(first.state, replace(TAIL, sealed=True, header_end_offset=150))
    assert again.previous_end == first.previous_end
    assert again.seal_position is None
    assert again.base_offset >= first.base_offset
