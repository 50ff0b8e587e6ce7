"""A step of the wall clock ahead is believed when it has stood for an hour; one back, at once."""

import json
import time
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from bus import wall_clock
from bus.directory import BusDirectory
from bus.wall_clock import CLOCK_FILE, CONFIRM_S, NS, View, WallClock, look

YEAR = 365 * 86_400 * NS
HOUR = CONFIRM_S * NS
SECOND = NS
NOW = 1_800_000_000 * NS


def test_a_clock_that_stands_is_followed() -> None:
    assert look(View(NOW), NOW, 0) == View(NOW)


def test_a_clock_that_is_slewed_is_followed() -> None:
    view = View(NOW)
    for second in range(1, 100):
        view = look(view, NOW + second * SECOND // 2, second * 30 * SECOND)
    assert view == View(NOW + 99 * SECOND // 2)


def test_a_step_ahead_changes_nothing_before_it_has_stood_for_an_hour() -> None:
    view = look(View(NOW), NOW + YEAR, 5)
    assert view == View(NOW, NOW + YEAR, 5)
    assert look(view, NOW + YEAR, 5 + HOUR - 1) == view
    assert look(view, NOW + YEAR, 5 + HOUR) == View(NOW + YEAR)


def test_a_step_ahead_that_is_taken_back_leaves_no_trace() -> None:
    view = look(View(NOW), NOW + YEAR, 5)
    assert look(view, NOW, 10) == View(NOW)
    assert look(look(view, NOW, 10), NOW + YEAR, 5 + HOUR).suspected_ns == NOW + YEAR


def test_another_step_ahead_is_waited_for_anew() -> None:
    view = look(View(NOW), NOW + YEAR, 0)
    view = look(view, NOW + 2 * YEAR, HOUR - 1)
    assert view == View(NOW, NOW + 2 * YEAR, HOUR - 1)
    assert look(view, NOW + 2 * YEAR, HOUR + 5) == view


def test_a_step_back_is_believed_at_once() -> None:
    assert look(View(NOW), NOW - YEAR, 5) == View(NOW - YEAR)


@pytest.fixture
def directory(tmp_path: Path) -> BusDirectory:
    return BusDirectory.create(tmp_path / "bus")


def seen(directory: BusDirectory, ahead_s: float) -> float:
    """By how many seconds a new WallClock is ahead of the true time, with such a clock."""
    true_ns = time.time_ns()
    with patch.object(wall_clock.time, "time_ns", lambda: true_ns + int(ahead_s * NS)):
        return (WallClock(directory, Mock()).now_ns() - true_ns) / NS


def test_a_broker_that_is_stopped_between_its_clocks_takes_that_for_no_step(
    directory: BusDirectory,
) -> None:
    stops = iter([0, 0, 5 * NS, 5 * NS, 0, 0])  # in the first look at the wall clock, and before

    def time_ns() -> int:
        nonlocal stopped_ns
        stopped_ns += next(stops)
        return true_ns + stopped_ns

    true_ns, boottime_ns, stopped_ns = time.time_ns(), time.monotonic_ns(), 0
    incidents = Mock()
    with (
        patch.object(wall_clock.time, "time_ns", time_ns),
        patch.object(wall_clock.time, "clock_gettime_ns", lambda clock: boottime_ns + stopped_ns),
    ):
        clock = WallClock(directory, incidents)
        for _ in range(3):
            assert clock.now_ns() == true_ns + stopped_ns
    incidents.note.assert_not_called()


def test_what_was_believed_outlives_the_broker_in_the_same_boot(directory: BusDirectory) -> None:
    assert abs(seen(directory, 0)) < 1
    assert abs(seen(directory, 1e8)) < 1
    assert abs(seen(directory, 1e8)) < 1
    with patch.object(wall_clock, "CONFIRM_S", 0):
        assert abs(seen(directory, 1e8) - 1e8) < 1


def test_after_a_boot_the_clock_is_believed_as_it_is(directory: BusDirectory) -> None:
    assert abs(seen(directory, 0)) < 1
    with patch.object(wall_clock, "boot_id", lambda: "another"):
        assert abs(seen(directory, 1e8) - 1e8) < 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"boot_id": "BOOT", "offset_ns": "x", "since_ns": 0}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_file_that_says_nothing_is_no_error(directory: BusDirectory, content: bytes) -> None:
    boot = wall_clock.boot_id().encode()
    (directory.path / CLOCK_FILE).write_bytes(content.replace(b"BOOT", boot))
    (directory.path / CLOCK_FILE).chmod(0o600)
    assert abs(seen(directory, 0)) < 1
    assert json.loads((directory.path / CLOCK_FILE).read_text())["suspected_ns"] is None


def test_what_a_broker_saw_when_it_started_outlives_it(directory: BusDirectory) -> None:
    """Though it ended before it looked at any record."""
    WallClock(directory, Mock())
    assert abs(seen(directory, 1e8)) < 1


def test_a_clock_that_stands_is_written_once(directory: BusDirectory) -> None:
    clock = WallClock(directory, Mock())
    clock.now_ns()
    before = (directory.path / CLOCK_FILE).stat().st_ino
    for _ in range(10):
        clock.now_ns()
    assert (directory.path / CLOCK_FILE).stat().st_ino == before
