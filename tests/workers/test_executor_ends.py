"""What an Executor does when something in it fails, dies or ends, and that nothing is left."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bus import Admin, Broker
from bus.errors import BusError
from tests.waiting import eventually
from tests.workers import tasks
from tests.workers.executors import ROOT, homes, open_gate
from tests.workers.rig import is_alive
from workers import Executor
from workers.errors import (
    CrashLoopError,
    NotPicklableError,
    PoolOptionError,
    RemoteError,
    StartMethodError,
    WorkerDied,
)

# ------------------------------------------------------------------------------ what cannot travel


def test_arguments_that_cannot_be_pickled_fail_at_submit_and_nothing_else_does(
    executor: Executor,
) -> None:
    with pytest.raises(TypeError, match="stays here"):
        executor.submit(tasks.nothing, tasks.Unpicklable())
    with pytest.raises(Exception, match=r"(?i)pickle"):
        executor.submit(lambda: None)
    assert executor.submit(tasks.add, 1).result(20) == 2


def test_arguments_that_cannot_be_made_again_fail_their_future(executor: Executor) -> None:
    with pytest.raises(OSError, match="made elsewhere"):
        executor.submit(tasks.nothing, tasks.CannotBeMade()).result(20)
    assert executor.submit(tasks.add, 1).result(20) == 2


def test_results_that_cannot_travel_fail_their_future(executor: Executor) -> None:
    with pytest.raises(TypeError, match="stays here"):
        executor.submit(tasks.make_unpicklable).result(20)
    with pytest.raises(OSError, match="made elsewhere"):
        executor.submit(tasks.make_cannot_be_made).result(20)
    assert executor.submit(tasks.add, 1).result(20) == 2


def test_exceptions_that_cannot_travel_are_told_as_text(executor: Executor) -> None:
    with pytest.raises(RemoteError, match="NeedsTwo: 1 and 2"):
        executor.submit(tasks.raise_needs_two).result(20)
    with pytest.raises(RemoteError, match="with a companion"):
        executor.submit(tasks.raise_unpicklable).result(20)
    with pytest.raises(RecursionError):
        executor.submit(tasks.recurse, 0).result(20)


# ------------------------------------------------------------------------------------------ deaths


def test_a_dead_worker_fails_its_own_task_and_no_other(executor: Executor) -> None:
    before = [executor.submit(tasks.add, number) for number in range(300)]
    killed = executor.submit(tasks.kill_me)
    after = [executor.submit(tasks.add, number) for number in range(300)]
    with pytest.raises(WorkerDied, match="SIGKILL") as caught:
        killed.result(30)
    assert caught.value.signal == 9
    assert [future.result(30) for future in before + after] == 2 * list(range(1, 301))


def test_the_error_of_a_dead_worker_says_how_it_died(executor: Executor) -> None:
    with pytest.raises(WorkerDied, match="exited with code 7") as caught:
        executor.submit(tasks.exit_hard, 7).result(30)
    assert (caught.value.exit_code, caught.value.signal) == (7, None)
    assert caught.value.pid > 0


def test_each_future_has_an_error_of_its_own(executor: Executor) -> None:
    futures = [executor.submit(tasks.kill_me) for _ in range(2)]
    errors = [future.exception(40) for future in futures]
    assert errors[0] is not errors[1]


def test_a_task_whose_worker_died_is_begun_again_if_that_was_asked_for(tmp_path: Path) -> None:
    with Executor(1, retries=1) as executor:
        pid = executor.submit(tasks.die_the_first_time, tmp_path / "mark").result(30)
        assert pid > 0
        with pytest.raises(WorkerDied, match="as 1 before it"):
            executor.submit(tasks.kill_me).result(30)


def test_workers_that_cannot_live_fail_all_futures_and_later_submits() -> None:
    with Executor(1, initializer=tasks.fail, initargs=("no model",)) as executor:
        futures = [executor.submit(tasks.nothing) for _ in range(3)]
        errors = [future.exception(40) for future in futures]
        assert {type(error) for error in errors} == {CrashLoopError}
        assert len({id(error) for error in errors}) == 3
        assert "no model" in str(errors[0])
        with pytest.raises(CrashLoopError):
            executor.submit(tasks.nothing)


def test_a_worker_is_replaced_after_so_many_tasks() -> None:
    with Executor(2, max_tasks_per_child=3) as executor:
        futures = [executor.submit(tasks.my_pid) for _ in range(12)]
        pids = [future.result(50) for future in futures]
    assert max(pids.count(pid) for pid in pids) <= 3
    assert len(set(pids)) >= 4


def test_an_initializer_runs_once_in_each_worker() -> None:
    with Executor(1, initializer=tasks.start_with, initargs=("model",)) as executor:
        assert list(executor.map(tasks.started_with, range(3), chunksize=1)) == [["model"]] * 3


# -------------------------------------------------------------------------------------------- ends


def test_a_shutdown_waits_for_what_was_submitted() -> None:
    executor = Executor(1)
    futures = [executor.submit(tasks.add, number) for number in range(50)]
    executor.shutdown()
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.nothing)


def test_a_shutdown_that_does_not_wait_still_gets_all_done(tmp_path: Path) -> None:
    executor = Executor(1)
    future = executor.submit(tasks.wait_for_file, tmp_path / "gate", 5)
    executor.shutdown(wait=False)
    open_gate(tmp_path / "gate")
    assert future.result(20) == 5
    executor.shutdown()


def test_a_shutdown_can_cancel_what_has_not_begun(tmp_path: Path) -> None:
    executor = Executor(1)
    running = executor.submit(tasks.wait_for_file, tmp_path / "gate", 5)
    waiting = [executor.submit(tasks.nothing) for _ in range(1000)]
    eventually(running.running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    open_gate(tmp_path / "gate")
    executor.shutdown()
    assert running.result(0) == 5


def test_an_executor_that_is_forgotten_ends_by_itself() -> None:
    executor = Executor(1)
    future = executor.submit(tasks.my_pid)
    del executor
    gc.collect()
    pid = future.result(20)
    eventually(lambda: not is_alive(pid))
    eventually(lambda: not homes() or len(homes()) == 1)


def test_a_callback_may_shut_the_executor_down() -> None:
    executor = Executor(1)
    future = executor.submit(tasks.nothing)
    future.add_done_callback(lambda _: executor.shutdown())
    executor.shutdown()
    assert future.done()


PROGRAM = """
import sys
from tests.workers import tasks
from workers import Executor

if __name__ == "__main__":
    executor = Executor(1)
    executor.submit(tasks.append, sys.argv[1], "done")
    {end}
"""


@pytest.mark.parametrize("end", ["pass", "raise LookupError"])
def test_a_program_that_ends_without_a_shutdown_gets_its_tasks_done(
    tmp_path: Path, end: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(end=end))
    lines = tmp_path / "lines"
    ended = subprocess.run(
        [sys.executable, script, lines],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        timeout=50,
        check=False,
        capture_output=True,
        text=True,
    )
    assert lines.read_text() == "done\n", ended.stderr
    assert (ended.returncode != 0) == (end != "pass")
    assert not list(tmp_path.glob("bus-executor-*"))


def test_on_a_bus_of_the_users_its_topics_and_its_group_are_gone_afterwards(
    broker: Broker, bus_dir: Path
) -> None:
    with Executor(1, bootstrap_servers=bus_dir) as executor:
        assert executor.submit(tasks.add, 1).result(20) == 2
        with Admin(bus_dir) as admin:
            assert len(admin.list_topics()) == 2
    with Admin(bus_dir) as admin:
        assert (admin.list_topics(), admin.list_groups()) == ([], [])


def test_a_bus_that_cannot_be_reached_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BusError):
        Executor(1, bootstrap_servers=tmp_path / "file")


# ------------------------------------------------------------------------------------------ nested


def test_a_task_may_have_an_executor_of_its_own(executor: Executor) -> None:
    assert executor.submit(tasks.sum_in_a_pool_of_its_own, [1, 2, 3]).result(50) == 9


def test_an_executor_does_not_travel_to_its_workers(executor: Executor) -> None:
    with pytest.raises(TypeError, match="makes its own"):
        executor.submit(tasks.nothing, executor)


def test_a_forked_child_is_told_to_make_its_own(executor: Executor) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(tasks.nothing)
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        executor.shutdown()
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as told:
        assert "make one of its own" in told.read()
    assert executor.submit(tasks.add, 1).result(20) == 2


# ----------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_workers": 0}, PoolOptionError),
        ({"max_workers": 1.5}, PoolOptionError),
        ({"retries": -1}, PoolOptionError),
        ({"retries": 1000}, PoolOptionError),
        ({"max_tasks_per_child": 0}, PoolOptionError),
        ({"initializer": 3}, PoolOptionError),
        ({"initializer": lambda: None}, NotPicklableError),
        ({"start_method": "fork"}, StartMethodError),
        ({"start_method": "thread"}, StartMethodError),
    ],
)
def test_nonsense_is_refused_and_leaves_nothing(
    options: dict[str, object], error: type[Exception]
) -> None:
    before = homes()
    with pytest.raises(error):
        Executor(**options)  # type: ignore[arg-type]
    assert homes() == before


def test_short_tasks_do_not_wait_for_a_long_one_that_was_claimed_before_them(
    executor: Executor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    before = [executor.submit(tasks.nothing) for _ in range(3000)]  # many are claimed at once
    late = executor.submit(tasks.wait_for_file, gate)
    after = [executor.submit(tasks.nothing) for _ in range(1000)]
    for future in before + after:
        future.result(15)
    assert not late.done()
    open_gate(gate)
    late.result(20)
