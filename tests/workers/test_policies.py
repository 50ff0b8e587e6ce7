"""What is decided without I/O: restarts, recycling, overtime, verdicts, the causes of ends."""

import random
from pathlib import Path

import pytest

from workers.block import Task
from workers.errors import RecyclingError
from workers.exits import Cause, OomCounter, counter_file, exit_of
from workers.overtime import Step, step_of
from workers.recycling import Recycling
from workers.restarts import DEATHS_MAX, LONGEST_PAUSE_S, Life, Restarts
from workers.verdicts import Deaths, Kind, deaths, exit_word

FRUITLESS = Life(0.01, was_ready=False, made_progress=False)
FRUITFUL = Life(0.01, was_ready=True, made_progress=True)
SECOND = 1_000_000_000


def test_pauses_double_up_to_the_longest_while_nothing_gets_done() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_s(FRUITLESS) for _ in range(12)]
    assert pauses[:4] == [0.05, 0.1, 0.2, 0.4]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_worker_that_has_begun_a_task_is_started_again_at_once() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(FRUITFUL) for _ in range(100)] == [0.0] * 100
    assert not restarts.hopeless


def test_it_is_hopeless_after_so_many_deaths_in_a_row_and_progress_starts_the_count_anew() -> None:
    restarts = Restarts()
    for _ in range(DEATHS_MAX - 1):
        restarts.pause_s(FRUITLESS)
    assert not restarts.hopeless
    restarts.pause_s(FRUITFUL)
    for _ in range(DEATHS_MAX):
        restarts.pause_s(FRUITLESS)
    assert restarts.hopeless


def test_limits_on_tasks_are_drawn_from_the_last_tenth() -> None:
    draw = random.Random(1)
    drawn = {Recycling(max_tasks=1000).drawn(draw).max_tasks for _ in range(300)}
    assert len(drawn) > 50
    assert all(tasks is not None and 900 <= tasks <= 1000 for tasks in drawn)
    assert Recycling(max_tasks=1).drawn(draw).max_tasks == 1


def test_each_limit_is_a_reason_of_its_own() -> None:
    limits = Recycling(max_tasks=10, max_rss_bytes=100, max_age_s=60.0)
    assert limits.reason(tasks=9, rss_bytes=100, age_s=59.9) == ""
    assert limits.reason(tasks=10, rss_bytes=0, age_s=0.0) == "10 tasks"
    assert limits.reason(tasks=0, rss_bytes=101, age_s=0.0) == "101 bytes of memory"
    assert limits.reason(tasks=0, rss_bytes=0, age_s=60.0) == "60 s of age"


@pytest.mark.parametrize("name", ["max_tasks", "max_rss_bytes", "max_age_s"])
def test_a_limit_of_zero_is_refused(name: str) -> None:
    with pytest.raises(RecyclingError, match=f"{name} must be above 0, not 0"):
        Recycling(**{name: 0})


def test_the_steps_against_a_late_task_come_in_their_order() -> None:
    task = Task(0, 0, 0, 0, since_ns=100 * SECOND, deadline_ns=110 * SECOND)
    seconds = (107.9, 108.0, 109.9, 110.0, 110.9, 111.0, 112.0)
    steps = [step_of(task, int(second * SECOND)) for second in seconds]
    assert [step.name for step in steps] == ["FINE", "WARN", "WARN", "SOFT", "SOFT", "TERM", "KILL"]
    assert step_of(Task(0, 0, 0, 0, SECOND, 0), 10**6 * SECOND) is Step.FINE


def test_deaths_are_told_apart_by_their_verdicts() -> None:
    oom, timeout = (Kind.OOM, 11, 0), (Kind.TIMEOUT, 12, 0)
    assert deaths(0, [oom]) == Deaths()
    assert deaths(2, []) == Deaths(crash=2)
    found = deaths(3, [oom, timeout])
    assert (found.crash, found.oom, found.timeout, found.interrupt) == (1, 1, 1, 0)
    # older verdicts are of an earlier life of the record
    assert deaths(1, [oom, oom, timeout]).oom == 0


@pytest.mark.parametrize("code", [0, 3, -9, -37, None])
def test_an_exit_survives_the_board(code: int | None) -> None:
    exit = exit_of(7, code, out_of_memory=False)
    assert deaths(1, [(Kind.CRASH, 7, exit_word(exit))]).last == exit


def test_a_kill_is_out_of_memory_only_if_the_kernel_counted_one(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    file.write_text("low 0\noom 3\noom_kill 3\n")
    counter = OomCounter(file)
    assert not counter.struck()
    file.write_text("low 0\noom 4\noom_kill 4\n")
    assert counter.struck()
    assert not counter.struck()
    assert exit_of(7, -9, out_of_memory=True).cause is Cause.OOM
    assert exit_of(7, -9, out_of_memory=False).cause is Cause.SIGNAL
    assert exit_of(7, -15, out_of_memory=True).cause is Cause.SIGNAL


def test_the_nearest_count_of_kills_is_found(tmp_path: Path) -> None:
    own, groups = tmp_path / "cgroup", tmp_path / "fs"
    own.write_text("0::/a/b\n")
    (groups / "a/b").mkdir(parents=True)
    assert counter_file(groups, own) == Path("/proc/vmstat")
    (groups / "memory.events").write_text("oom_kill 0\n")
    assert counter_file(groups, own) == groups / "memory.events"
    (groups / "a/b/memory.events").write_text("oom_kill 0\n")
    assert counter_file(groups, own) == groups / "a/b/memory.events"
    own.write_text("4:memory:/x\n0::/\n")
    (groups / "memory/x").mkdir(parents=True)
    (groups / "memory/x/memory.oom_control").write_text("under_oom 0\noom_kill 1\n")
    assert counter_file(groups, own) == groups / "memory/x/memory.oom_control"


def test_the_end_of_a_process_is_told_in_words() -> None:
    texts = [str(exit_of(7, code, out_of_memory=True)) for code in (0, -9, -37, None)]
    assert texts == [
        "worker process 7 exited with code 0",
        "worker process 7 was killed by the kernel: out of memory",
        "worker process 7 was ended by signal 37",
        "worker process 7 ended, and its exit code is not known",
    ]
