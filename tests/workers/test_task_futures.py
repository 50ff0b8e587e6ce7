"""Futures of tasks: a lock of their own only if somebody asks, and nobody misses a result."""

import threading
from concurrent.futures import CancelledError, as_completed, wait
from typing import Any

import pytest

from workers.task_future import TaskFuture


class Nobody:
    """Withdraws whatever it is asked to."""

    def withdraw(self, future: TaskFuture[Any]) -> bool:
        return future.cancel_withdrawn()

    def has_begun(self, task: int) -> bool:
        return False


def made(task: int = 1) -> "TaskFuture[int]":
    return TaskFuture(task, Nobody())


def test_a_future_that_is_done_before_it_is_asked_for_has_no_condition() -> None:
    future = made()
    future.complete(3)
    assert future.done()
    assert future.result() == 3
    assert "_condition" not in future.__dict__
    assert future.exception() is None


def test_all_of_concurrent_futures_works_before_and_after_a_result() -> None:
    futures = [made(task) for task in range(4)]
    futures[0].complete(0)
    called: list[int] = []
    for future in futures:
        future.add_done_callback(lambda one: called.append(one.result()))
    for number, future in enumerate(futures[1:], 1):
        future.complete(number)
    assert called == [0, 1, 2, 3]
    assert wait(futures, 5).not_done == set()
    assert {one.result() for one in as_completed(futures, 5)} == {0, 1, 2, 3}


def test_an_error_a_cancellation_and_a_time_out_are_told() -> None:
    failed, cancelled, late = made(), made(), made()
    failed.set_exception(LookupError("no"))
    assert cancelled.cancel()
    assert cancelled.cancelled()
    with pytest.raises(LookupError, match="no"):
        failed.result()
    with pytest.raises(CancelledError):
        cancelled.result()
    with pytest.raises(TimeoutError):
        late.result(0.001)
    with pytest.raises(AttributeError, match="no attribute 'task_id'"):
        late.task_id  # noqa: B018


@pytest.mark.parametrize("first", ["wait", "callback", "result"])
def test_who_asks_while_a_result_comes_gets_it(first: str) -> None:
    for number in range(2000):
        future, together = made(), threading.Barrier(2)
        found: list[int] = []
        thread = threading.Thread(target=_complete, args=(future, together, number))
        thread.start()
        together.wait(10)
        if first == "wait":
            assert wait([future], 10).not_done == set()
        elif first == "callback":
            future.add_done_callback(lambda one, found=found: found.append(one.result()))
        assert future.result(10) == number
        thread.join(10)
        assert first != "callback" or found == [number]


def _complete(future: "TaskFuture[int]", together: threading.Barrier, number: int) -> None:
    together.wait(10)
    future.complete(number)
