"""An Executor does what concurrent.futures promises."""

import threading
from collections.abc import Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.waiting import eventually
from tests.workers import tasks
from tests.workers.executors import open_gate
from workers import Executor

# ----------------------------------------------------------------------------------------- results


def test_a_task_runs_in_another_process_and_its_result_comes_back(executor: Executor) -> None:
    assert executor.submit(tasks.add, 2, right=40).result(20) == 42
    assert executor.submit(tasks.my_pid).result(20) in executor.pids()


def test_the_exception_of_a_task_comes_with_the_traceback_of_the_worker(
    executor: Executor,
) -> None:
    future = executor.submit(tasks.fail, "nothing there")
    with pytest.raises(LookupError, match="nothing there") as caught:
        future.result(20)
    assert "in fail" in str(caught.value.__cause__)
    assert isinstance(executor.submit(tasks.reciprocal, 0).exception(20), ZeroDivisionError)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_may_raise_what_would_end_a_program(
    executor: Executor, error: type[BaseException]
) -> None:
    function = tasks.raise_interrupt if error is KeyboardInterrupt else tasks.exit_softly
    arguments = () if error is KeyboardInterrupt else (3,)
    assert type(executor.submit(function, *arguments).exception(20)) is error
    assert executor.submit(tasks.add, 1).result(20) == 2


def test_callbacks_wait_and_as_completed_work_as_for_any_future(executor: Executor) -> None:
    called: list[Future[int]] = []
    futures = [executor.submit(tasks.add, number) for number in range(20)]
    futures[3].add_done_callback(called.append)
    done, pending = wait(futures, timeout=20)
    assert not pending
    assert {one.result() for one in as_completed(done, timeout=20)} == set(range(1, 21))
    eventually(lambda: called == [futures[3]])
    assert all(one.done() and not one.running() for one in futures)


def test_a_wait_for_the_first_ends_with_the_first(executor: Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    late = executor.submit(tasks.wait_for_file, gate)
    done, pending = wait([executor.submit(tasks.nothing), late], 20, FIRST_COMPLETED)
    assert pending == {late}
    eventually(lambda: late.running())
    with pytest.raises(TimeoutError):
        late.result(0.01)
    open_gate(gate)
    assert late.result(20) is None
    assert len(done) == 1


def test_a_shared_executor_serves_several_threads(executor: Executor) -> None:
    sums: list[int] = []

    def submit_some() -> None:
        futures = [executor.submit(tasks.add, number) for number in range(200)]
        sums.append(sum(future.result(20) for future in futures))

    threads = [threading.Thread(target=submit_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sums == [sum(range(1, 201))] * 4


def test_20000_tasks_at_once_are_all_done(executor: Executor) -> None:
    futures = [executor.submit(tasks.add, number) for number in range(20_000)]
    assert [future.result(50) for future in futures] == list(range(1, 20_001))


def test_results_larger_than_any_pipe_come_back(executor: Executor) -> None:
    futures = [executor.submit(tasks.large, 8 << 20) for _ in range(8)]
    assert [len(future.result(40)) for future in futures] == [8 << 20] * 8


# --------------------------------------------------------------------------------------------- map


def test_map_gives_results_in_order_however_they_are_chunked(executor: Executor) -> None:
    numbers = range(3000)
    expected = [number + 1 for number in numbers]
    assert list(executor.map(tasks.add, numbers)) == expected
    assert list(executor.map(tasks.add, numbers, chunksize=7)) == expected
    assert list(executor.map(tasks.add, numbers, buffersize=50)) == expected
    assert list(executor.map(tasks.add, [1, 2, 3], [10, 20])) == [11, 22]
    assert list(executor.map(tasks.add, [])) == []


def test_map_takes_any_iterable_and_none(executor: Executor) -> None:
    items: list[Any] = [(1, 2), [3], "four", None]
    for given in (items, tuple(items), iter(items), dict.fromkeys([(1, 2), "four"])):
        expected = items if not isinstance(given, dict) else list(given)
        assert list(executor.map(tasks.itself, given)) == expected
    assert list(executor.map(tasks.itself, np.arange(3))) == [0, 1, 2]
    assert list(executor.map(tasks.nothing)) == []


def test_map_pickles_its_function_once(executor: Executor) -> None:
    before = tasks.Counting.pickled
    assert len(list(executor.map(tasks.Counting(), range(40), chunksize=1))) == 40
    assert tasks.Counting.pickled == before + 1


def test_what_a_task_changes_in_its_callable_the_next_one_does_not_see(
    executor: Executor,
) -> None:
    futures = [executor.submit(tasks.Counting()) for _ in range(20)]
    assert [future.result(20) for future in futures] == [1] * 20


def test_map_gives_what_comes_before_an_error(executor: Executor) -> None:
    results = executor.map(tasks.reciprocal, [1, 2, 0, 4], chunksize=4)
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "in reciprocal" in str(caught.value.__cause__)


def test_map_takes_no_more_from_an_endless_iterable_than_it_may(executor: Executor) -> None:
    taken = 0

    def count() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = executor.map(tasks.add, count(), buffersize=10)
    assert taken <= 10
    assert [next(results) for _ in range(30)] == list(range(2, 32))
    assert taken <= 40
    results.close()  # type: ignore[attr-defined]


def test_map_times_out_and_cancels_what_has_not_begun(own: Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    results = own.map(tasks.wait_for_file, [gate] * 5, timeout=0.5, chunksize=1)
    with pytest.raises(TimeoutError):
        next(results)
    open_gate(gate)
    own.submit(tasks.nothing).result(20)
    assert tasks.begun(gate) <= 1


def test_map_submits_all_without_being_iterated(executor: Executor, tmp_path: Path) -> None:
    executor.map(tasks.append, [tmp_path / "lines"] * 20, map(str, range(20)))
    lines = tmp_path / "lines"
    eventually(lambda: lines.exists() and len(lines.read_text().split()) == 20)


@pytest.mark.parametrize("option", ["chunksize", "buffersize"])
def test_map_refuses_numbers_below_1(executor: Executor, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        executor.map(tasks.add, [1], **{option: 0})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ cancel


def test_a_task_can_be_cancelled_until_a_worker_begins_with_it(
    own: Executor, tmp_path: Path
) -> None:
    gate, other = tmp_path / "gate", tmp_path / "other"
    running = own.submit(tasks.wait_for_file, gate, "done")
    waiting = [own.submit(tasks.wait_for_file, other) for _ in range(5)]
    eventually(running.running)
    assert not running.cancel()
    assert all(future.cancel() for future in waiting)
    assert all(future.cancel() for future in waiting)  # again
    assert wait(waiting, 5).not_done == set()
    with pytest.raises(CancelledError):
        waiting[0].result()
    open_gate(gate)
    assert running.result(20) == "done"
    assert not running.cancel()
    own.submit(tasks.nothing).result(20)
    assert tasks.begun(other) == 0


def test_cancelling_while_tasks_begin_never_loses_or_repeats_one(
    executor: Executor, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    futures = [executor.submit(tasks.append, lines, str(number)) for number in range(600)]
    cancelled = {number for number, future in enumerate(futures) if future.cancel()}
    wait(futures, 30)
    ran = [int(line) for line in lines.read_text().split()] if lines.exists() else []
    assert sorted(ran) == [number for number in range(600) if number not in cancelled]


# ------------------------------------------------------------------------------------------ arrays


def test_a_large_array_is_read_in_place_and_only_read(executor: Executor) -> None:
    array = np.ones(100_000_000 // 8)
    total, writeable, owns, resident = executor.submit(tasks.about_array, array).result(40)
    assert (total, writeable, owns) == (array.sum(), False, False)
    assert resident < array.nbytes


def test_an_array_that_comes_back_may_be_written_to(executor: Executor) -> None:
    array = executor.submit(tasks.make_array, 100_000).result(20)
    array += 1
    assert array[-1] == 100_000
