"""The way of a scheduled task, by clocks that are set, begin anew, or go on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from workers.errors import ScheduleError
from workers.lanes import (
    LANES,
    PLAN,
    WAITS_NS,
    Mark,
    Now,
    Plan,
    lane_of,
    own_headers,
    source_header,
    source_of,
)
from workers.scheduling import _plan

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
NOW = Now(wall_ns=1_800_000_000 * SECOND, boot_ns=1000 * SECOND, boot="one")


def later(ns: int, *, wall_ns: int = 0, boot: str = "one") -> Now:
    """So much later; the wall clock was set by `wall_ns` meanwhile."""
    return Now(NOW.wall_ns + ns + wall_ns, NOW.boot_ns + ns, boot)


def way(plan: Plan, now: Now) -> list[int]:
    """The lanes through which a task goes, each in its time; it ends when it is due."""
    lanes = []
    while (left_ns := plan.left_ns(now)) > 0:
        lanes.append(lane_of(left_ns))
        plan = plan.in_lane(lanes[-1], now)
        wait_ns = plan.wait_ns(now)
        assert 0 < wait_ns <= left_ns, "it would be late, or would wait for nothing"
        now = Now(now.wall_ns + wait_ns, now.boot_ns + wait_ns, now.boot)
    assert left_ns == 0, "it is neither early nor late"
    return lanes


@pytest.mark.parametrize(
    "seconds", [0.000001, 0.005, 0.01, 0.5, 9, 86_400, 7 * 86_400, 366 * 86_400]
)
def test_a_task_goes_through_shorter_and_shorter_lanes_until_it_is_due(seconds: float) -> None:
    lanes = way(Plan.after("out", None, int(seconds * SECOND), NOW), NOW)
    assert lanes == sorted(lanes, reverse=True)
    assert all(lanes.count(lane) <= 8 for lane in set(lanes) - {LANES - 1})
    assert len(lanes) < 100


def test_a_lane_has_one_wait_so_what_came_first_is_ready_first() -> None:
    for lane in range(1, LANES):
        left_ns = WAITS_NS[lane] + 12_345
        assert lane_of(left_ns) == lane
        plan = Plan.after("out", None, left_ns, NOW).in_lane(lane, NOW)
        assert plan.wait_ns(NOW) == WAITS_NS[lane]


def test_a_delay_takes_no_notice_of_a_clock_that_is_set() -> None:
    plan = Plan.after("out", None, HOUR, NOW).in_lane(5, NOW)
    for wall_ns in (-100 * HOUR, 0, 100 * HOUR):
        assert plan.left_ns(later(HOUR // 2, wall_ns=wall_ns)) == HOUR // 2


def test_a_moment_follows_the_wall_clock() -> None:
    plan = Plan.at("out", None, NOW.wall_ns + HOUR, NOW).in_lane(5, NOW)
    assert plan.left_ns(later(0, wall_ns=HOUR)) == 0
    assert plan.left_ns(later(HOUR, wall_ns=-HOUR)) == HOUR


def test_after_a_reboot_the_wall_clock_counts_and_nothing_waits_for_a_clock_that_is_gone() -> None:
    plan = Plan.after("out", None, HOUR, NOW).in_lane(5, NOW)
    after = Now(NOW.wall_ns + HOUR // 4, 5 * SECOND, "two")
    assert plan.wait_ns(after) == 0
    assert plan.left_ns(after) == HOUR * 3 // 4
    # from here on it is by the clock of the new boot, which nobody can set
    moved = plan.in_lane(4, after)
    assert moved.left_ns(Now(after.wall_ns + 9 * HOUR, after.boot_ns, "two")) == HOUR * 3 // 4


def test_a_plan_survives_its_header_and_others_are_no_plan() -> None:
    plan = Plan.after("out", 3, HOUR, NOW).in_lane(5, NOW)
    assert Plan.of([("a", b"b"), (PLAN, plan.to_bytes())]) == plan
    for headers in (
        [],
        [(PLAN, None)],
        [(PLAN, b"{")],
        [(PLAN, b"[]")],
        [(PLAN, b'{"topic":"x"}')],
    ):
        with pytest.raises(ScheduleError, match=PLAN):
            Plan.of(headers)


def test_headers_of_a_task_are_its_own_again_at_the_end() -> None:
    headers = [("a", b"1"), (PLAN, b"{}"), source_header(3, 77), ("b", None)]
    assert own_headers(headers) == [("a", b"1"), ("b", None)]
    assert source_of(headers) == (3, 77)
    assert source_of([("schedule.from", b"x:y")]) is None


def test_a_note_says_whether_the_clock_was_set_since() -> None:
    mark = Mark(NOW.boot, NOW.offset_ns, 17, 1_800_000_000_000)
    assert Mark.of(mark.to_text()) == mark
    assert len(mark.to_text().encode()) < 192
    assert not mark.was_set(later(HOUR))
    assert mark.was_set(later(HOUR, wall_ns=-SECOND))
    assert not mark.was_set(replace(later(0, wall_ns=HOUR), boot="two")), "a reboot tells nothing"
    for text in ("", "boot 1 2", "boot 1 2 x"):
        assert Mark.of(text) is None


def test_times_that_make_no_sense_are_refused() -> None:
    def plan(delay_s: float | None = None, at: datetime | None = None, topic: str = "out") -> Plan:
        return _plan(topic, None, delay_s, at, NOW)

    with pytest.raises(ScheduleError, match="delay_s or at"):
        plan()
    with pytest.raises(ScheduleError, match="delay_s or at"):
        plan(1.0, datetime.now(UTC))
    for delay_s in (-1.0, float("nan"), float("inf"), 1e12):
        with pytest.raises(ScheduleError, match="delay_s must be"):
            plan(delay_s)
    with pytest.raises(ScheduleError, match="no time zone"):
        plan(at=datetime(2030, 1, 1))
    with pytest.raises(ScheduleError, match="is where tasks wait"):
        plan(1.0, topic="workers.schedule")


def test_a_moment_is_one_moment_in_every_time_zone() -> None:
    east = datetime(2030, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    west = datetime(2030, 1, 1, tzinfo=UTC)
    assert _plan("out", None, None, east, NOW) == _plan("out", None, None, west, NOW)
    assert _plan("out", None, None, west, NOW).wall_ns == 1_893_456_000 * SECOND
