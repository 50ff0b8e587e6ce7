"""A durable executor goes on where it was killed: all is done, and nothing twice that was done."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bus import Admin
from tests.waiting import eventually
from tests.workers import durable_program as program
from tests.workers import tasks
from tests.workers.executors import ROOT, open_gate
from workers import Executor
from workers.board import PLACE
from workers.errors import (
    DetachedError,
    ExecutorInUseError,
    PoolOptionError,
    UnknownTaskError,
    WorkerDied,
)

pytestmark = pytest.mark.usefixtures("broker")


def made(bus_dir: Path) -> Executor:
    return Executor(1, bootstrap_servers=bus_dir, durable=True, name="mine")


def left(bus_dir: Path) -> tuple[list[str], list[str], list[Path]]:
    """Topics, groups and tickets."""
    with Admin(bus_dir) as admin:
        tickets = list(PLACE.glob(f"executor.*.{admin.describe_cluster()['cluster_id']}.tickets"))
        groups = [str(group["group_id"]) for group in admin.list_groups()]
        return admin.list_topics(), groups, tickets


def test_what_was_not_fetched_is_there_again_by_number(bus_dir: Path) -> None:
    with made(bus_dir) as executor:
        futures = [executor.submit(tasks.add, number) for number in range(10)]
        assert futures[3].result(20) == 4
        executor.forget(futures[3])
        numbers = [future.task for future in futures]
    with made(bus_dir) as executor:
        assert [one.task for one in executor.pending()] == [*numbers[:3], *numbers[4:]]
        assert executor.future(numbers[9]).result(20) == 10
        with pytest.raises(UnknownTaskError, match="forgotten"):
            executor.future(numbers[3])
        assert executor.submit(tasks.add, 40).task > max(numbers)
        assert executor.future(numbers[9]).result(20) == 10, "fetched, and still to be had"
        for future in executor.pending():
            future.result(20)
        assert executor.pending() == []
    assert left(bus_dir) == ([], [], [])


def test_errors_chunks_and_cancellations_are_what_they_were(bus_dir: Path, tmp_path: Path) -> None:
    executor = made(bus_dir)
    failed = executor.submit(tasks.fail, "nothing there")
    died = executor.submit(tasks.kill_me)
    executor.map(tasks.add, range(4), chunksize=2)
    executor.map(tasks.reciprocal, [1, 0], chunksize=2)
    eventually(lambda: all(one.done() for one in executor.pending()), 30.0)
    running = executor.submit(tasks.wait_for_file, tmp_path / "gate", 5)
    eventually(lambda: tasks.begun(tmp_path / "gate"), 30.0)
    cancelled = executor.submit(tasks.nothing)
    assert cancelled.cancel()
    open_gate(tmp_path / "gate")
    executor.shutdown()
    with made(bus_dir) as executor:
        assert isinstance(executor.future(failed.task).exception(20), LookupError)
        assert isinstance(executor.future(died.task).exception(20), WorkerDied)
        assert executor.future(running.task).result(20) == 5
        with pytest.raises(UnknownTaskError):
            executor.future(cancelled.task)
        first, second, broken = executor.pending()
        assert (first.result(20), second.result(20)) == ([1, 2], [3, 4])
        assert isinstance(broken.exception(20), ZeroDivisionError)
    assert left(bus_dir) == ([], [], [])


def test_what_is_detached_goes_on_later(bus_dir: Path, tmp_path: Path) -> None:
    executor = made(bus_dir)
    executor.submit(tasks.nothing).result(20)
    running = executor.submit(tasks.wait_for_file, tmp_path / "gate", 1)
    waiting = [executor.submit(tasks.append, tmp_path / "lines", "x") for _ in range(30)]
    eventually(lambda: tasks.begun(tmp_path / "gate"), 30.0)
    open_gate(tmp_path / "gate")
    executor.detach()
    states = [one.exception(0) for one in waiting if one.exception(0) is not None]
    assert all(isinstance(one, DetachedError) for one in states)
    with made(bus_dir) as executor:
        assert executor.future(running.task).result(20) == 1
        for future in executor.pending():
            future.result(20)
    assert (tmp_path / "lines").read_text() == "x\n" * 30
    assert tasks.begun(tmp_path / "gate") == 1


def test_ctrl_c_keeps_what_has_not_begun(bus_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), made(bus_dir) as executor:
        for _ in range(30):
            executor.submit(tasks.append, tmp_path / "lines", "x")
        raise KeyboardInterrupt
    with made(bus_dir) as executor:
        for future in executor.pending():
            future.result(20)
    assert (tmp_path / "lines").read_text() == "x\n" * 30


def test_there_is_one_of_a_name_at_a_time(bus_dir: Path) -> None:
    with made(bus_dir), pytest.raises(ExecutorInUseError, match="another name"):
        made(bus_dir)
    with made(bus_dir):
        code = (
            "from workers import Executor\n"
            f"Executor(1, bootstrap_servers={str(bus_dir)!r}, durable=True, name='mine')"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=40
        )
    assert "ExecutorInUseError" in ended.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"durable": True},
        {"name": "mine"},
        {"durable": True, "name": "mine"},
        {"durable": True, "name": "a/b", "bootstrap_servers": "."},
    ],
)
def test_a_durable_executor_needs_a_name_and_a_bus(options: dict[str, object]) -> None:
    with pytest.raises(PoolOptionError, match="name"):
        Executor(1, **options)  # type: ignore[arg-type]


def test_other_executors_keep_nothing(executor: Executor) -> None:
    for call in (executor.pending, executor.forget, executor.flush, executor.detach):
        with pytest.raises(RuntimeError, match="durable=True"):
            call()
    with pytest.raises(RuntimeError, match="durable=True"):
        executor.future(1)


def test_logs_are_cut_off_at_what_is_wanted(bus_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starts() -> list[int]:
        with Admin(bus_dir) as admin:
            found = admin.describe_topics(["executor.mine.tasks", "executor.mine.results"])
        return [one["partitions"][0]["log_start_offset"] for one in found]

    with made(bus_dir) as executor:
        futures = [executor.submit(tasks.add, number) for number in range(20)]
        for future in futures[:10]:
            future.result(20)
        executor.forget(*futures[:8])
        eventually(lambda: all(one.done() for one in futures), 20.0)
        executor._durable._trim()
        assert starts()[0] == 8
        assert 8 <= starts()[1] < 20, "words about results are there as well"
        monkeypatch.setattr("workers.durable_dispatch.RETENTION_S", -10.0)
        executor._durable._trim()
        assert starts()[0] == 10
        with pytest.raises(UnknownTaskError):
            executor.future(futures[9].task)
        with pytest.raises(ValueError, match="not done"):
            executor.forget(executor.submit(tasks.wait_for_file, bus_dir / "gate"))
        open_gate(bus_dir / "gate")
    with made(bus_dir) as executor:
        assert [one.result(20) for one in executor.pending()[:10]] == list(range(11, 21))
    assert left(bus_dir) != ([], [], [])
    with made(bus_dir) as executor:
        executor.pending()[0].result(20)


def test_after_a_reboot_what_has_no_result_is_done(bus_dir: Path, tmp_path: Path) -> None:
    with made(bus_dir) as executor:
        for number in range(3):
            executor.submit(tasks.append, tmp_path / "lines", str(number))
    executor = made(bus_dir)
    for number in range(3, 9):
        executor.submit(tasks.append, tmp_path / "lines", str(number))
    executor.detach()
    for path in left(bus_dir)[2]:
        path.unlink()
    with made(bus_dir) as executor:
        assert len(executor.pending()) == 9
        for future in executor.pending():
            future.result(20)
    assert (tmp_path / "lines").read_text().split() == [str(number) for number in range(9)]


# ------------------------------------------------------------------------------------------- kills


def run(bus_dir: Path, home: Path, *doom: object) -> "subprocess.CompletedProcess[str]":
    """The program, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.workers.durable_program", bus_dir, home, *map(str, doom)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=50,
    )


#: Every step of the program, alone and with its workers, and every step of a worker.
STEPS = [
    *((who, step, when) for step in program.PROGRAM for who in ("program", "all") for when in
      ("before", "after")),
    *((who, step, when) for step in program.WORKER for who in ("worker", "both") for when in
      ("before", "after")),
]  # fmt: skip
#: About so many of them, unless all are asked for.
SAMPLE = 4
CHOSEN = STEPS if os.environ.get("BUS_EXECUTOR_STEPS") == "all" else STEPS[:: len(STEPS) // SAMPLE]


@pytest.mark.parametrize(("who", "step", "when"), CHOSEN)
def test_killed_at_any_step_all_is_done_and_nothing_twice(
    bus_dir: Path, tmp_path: Path, who: str, step: str, when: str
) -> None:
    count = 5 if step in ("ticket issued", "record sent", "task sent", "result taken") else 1
    if step == "task taken over":  # there must be one
        run(bus_dir, tmp_path, "all", "task sent", "after", 5)
    first = run(bus_dir, tmp_path, who, step, when, count)
    last = run(bus_dir, tmp_path)
    assert last.stdout == "over\n", f"{first.stderr}\n{last.stderr}"
    lines = Counter((tmp_path / "lines").read_text().split())
    wanted = {str(number) for number in range(program.TASKS)} - {str(program.CANCELLED)}
    assert wanted <= set(lines)
    twice = {number for number, times in lines.items() if times > 1}
    # what a worker had in hand that was killed, and what was sent before it stood in the book
    unwritten = step in ("record sent", "task sent", "task taken over")
    assert len(twice) <= 1 + unwritten, lines
    assert first.returncode == (0 if who == "worker" else -9), first.stderr
    assert left(bus_dir) == ([], [], []), last.stderr
