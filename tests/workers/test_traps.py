"""What has hung, leaked or lost tasks in other executors and pools, and must not here.

Where another module has the test, it is named here:
    a worker that dies hangs its pool          test_executor_ends: a_dead_worker_fails_its_own_task
    an exception that cannot be unpickled      test_executor_ends: exceptions_that_cannot_travel
    one exception object for all futures       test_executor_ends: each_future_has_an_error
    a prefetched task waits for a long one     test_executor: short_tasks_do_not_wait
    many submits at once                       test_executor: 20000_tasks_at_once
    arguments that may not be written to       test_executor: a_large_array_is_read_in_place
    one dead worker ends the whole program     test_processes: a_killed_worker_is_replaced
    a task that kills its worker comes forever test_pool_deaths: a_record_that_kills_its_workers
"""

import os
import resource
import signal
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from bus.errors import BusError
from tests.children import Fork, Report
from tests.waiting import eventually
from tests.workers import tasks
from workers import Executor
from workers.errors import WorkerDied
from workers.tickets import Tickets

#: More than one message may have.
TOO_LARGE = (1 << 30) + 1


def test_a_worker_that_dies_while_large_arguments_are_sent_holds_up_no_other(
    executor: Executor,
) -> None:
    large = bytes(4 << 20)
    futures = [executor.submit(tasks.length, large) for _ in range(4)]
    dead = executor.submit(tasks.kill_me)
    futures += [executor.submit(tasks.length, large) for _ in range(8)]
    assert [future.result(40) for future in futures] == [len(large)] * 12
    assert isinstance(dead.exception(40), WorkerDied)


def test_workers_of_one_task_each_are_replaced_also_while_nothing_is_submitted() -> None:
    with Executor(1, max_tasks_per_child=1) as executor:
        pids = [executor.submit(tasks.my_pid).result(40) for _ in range(4)]
        assert [len(executor.submit(tasks.large, 1 << 20).result(40)) for _ in range(2)] == [
            1 << 20
        ] * 2, "results larger than a pipe, from workers that end at once"
    assert len(set(pids)) == 4


def test_what_is_too_large_to_send_is_an_error_at_once(executor: Executor) -> None:
    with pytest.raises(BusError, match=r"max\.message\.bytes"):
        executor.submit(tasks.nothing, np.zeros(TOO_LARGE, np.uint8))
    with pytest.raises(BusError, match=r"max\.message\.bytes"):
        executor.submit(np.zeros, TOO_LARGE, np.uint8).result(20)
    assert executor.submit(tasks.add, 1).result(20) == 2


def test_workers_that_are_killed_while_they_send_results_leave_no_lock_behind() -> None:
    with Executor(2, retries=100) as executor:
        futures = [executor.submit(tasks.large, 4 << 20) for _ in range(12)]
        eventually(lambda: any(map(Future.done, futures)), 40.0)
        assert any(list(map(_killed, executor.pids())))
        assert [len(future.result(50)) for future in futures] == [4 << 20] * 12


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_without_room_for_tickets_there_is_an_error_and_no_bus_error(
    fork: Fork, tmp_path: Path
) -> None:
    def limited(report: Report) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(OSError, match="large"):
            Tickets.named(tmp_path / "tickets")
        report("refused")

    assert fork(limited).next() == "refused"
