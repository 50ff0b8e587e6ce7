"""Processes of a measurement start together, report back, and never outlive it."""

import os
import signal
import time

import psutil
import pytest

from benchmarks.processes import Gate, ProcessFailed, forked, run_together
from tests.waiting import eventually


def test_roles_run_in_processes_of_their_own_and_answer_in_order() -> None:
    def role(gate: Gate) -> int:
        gate.wait()
        return os.getpid()

    pids = run_together(role, role, role)
    assert len({*pids, os.getpid()}) == 4


def test_nobody_waits_for_a_process_that_failed() -> None:
    def fails(gate: Gate) -> None:
        raise ValueError("of its own")

    start = time.monotonic()
    with pytest.raises(ProcessFailed, match="ValueError: of its own"):
        run_together(lambda gate: gate.wait(), fails)
    assert time.monotonic() - start < 10


def test_a_killed_process_is_noticed() -> None:
    def dies(gate: Gate) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ProcessFailed, match="without a word"):
        run_together(dies)


def test_a_forked_process_ends_with_its_block() -> None:
    with forked(signal.pause) as pid:
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_the_children_die_with_a_killed_benchmark() -> None:
    reader, writer = os.pipe()

    def outer() -> None:
        with forked(signal.pause) as pid:
            os.write(writer, f"{pid}\n".encode())
            signal.pause()

    with forked(outer) as pid:
        grandchild = int(os.read(reader, 32))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not _runs(grandchild), 10, "the grandchild has ended")
    os.close(reader)
    os.close(writer)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
