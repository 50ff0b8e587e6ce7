"""Several processes that start together and report back: the stage of every scenario."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

#: A scenario whose processes are not done after this many seconds has hung; it is killed.
DEADLINE_S = 300.0

#: prctl(2): the kernel kills this process when its parent dies.
PR_SET_PDEATHSIG = 1

_FORK = multiprocessing.get_context("fork")
_libc = ctypes.CDLL(None, use_errno=True)


class Gate:
    """Lets all processes of one measurement go on at the same moment."""

    def __init__(self, parties: int) -> None:
        self._barrier = _FORK.Barrier(parties)

    def wait(self) -> None:
        """Returns when every process has come here."""
        self._barrier.wait(DEADLINE_S)

    def abort(self) -> None:
        """Breaks the gate, so that nobody waits for a process that failed."""
        self._barrier.abort()


Role = Callable[[Gate], Any]


class ProcessFailed(RuntimeError):
    """Raised when a process of a measurement failed; carries its traceback."""


def run_together(*roles: Role) -> list[Any]:
    """Runs each role in a process of its own and returns their results in order.

    The processes are forked, so roles may be closures over whatever the parent has opened. Raises
    ProcessFailed with the traceback of the first that failed.
    """
    gate = Gate(len(roles))
    running = [_start(role, gate) for role in roles]
    try:
        answers = [_answer(process, channel) for process, channel in running]
    finally:
        for process, _ in running:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
    for failed, answer in answers:
        if failed and "BrokenBarrierError" not in str(answer):
            raise ProcessFailed(str(answer))
    for failed, answer in answers:
        if failed:
            raise ProcessFailed(str(answer))
    return [answer for _, answer in answers]


@contextlib.contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Runs `work` in a forked process for as long as the block lasts; yields its pid."""
    process = _FORK.Process(target=_work_alone, args=(work, os.getpid()))
    process.start()
    try:
        yield process.pid or 0
    finally:
        process.kill()
        process.join()


def _start(role: Role, gate: Gate) -> tuple[Any, Connection]:
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(role, gate, theirs, os.getpid()))
    sys.stdout.flush()
    process.start()
    theirs.close()
    return process, ours


def _die_with(parent: int) -> None:
    """A spinning child must not outlive a benchmark that was killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _work_alone(work: Callable[[], None], parent: int) -> None:
    _die_with(parent)
    work()


def _child(role: Role, gate: Gate, channel: Connection, parent: int) -> None:
    _die_with(parent)
    try:
        channel.send((False, role(gate)))
    except BaseException:
        gate.abort()
        channel.send((True, traceback.format_exc()))
        raise


def _answer(process: Any, channel: Connection) -> tuple[bool, Any]:
    if not channel.poll(DEADLINE_S):
        process.kill()
        return True, f"{process.name} did not finish within {DEADLINE_S} s"
    try:
        failed, answer = channel.recv()
    except EOFError:
        return True, f"{process.name} ended without a word, exit code {process.exitcode}"
    return failed, answer
