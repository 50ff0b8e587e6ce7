"""Ctrl-C at any instant of a group's calls: nobody keeps the mutex, whatever a handler raises.

Python runs signal handlers between instructions of its own, so also right after a lock was taken,
and right before it is given back. A timer interrupts the calls at random instants, often enough to
hit each of them.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.group import GroupMembership
from tests.groups.rig import Rig, poll, settle

#: Calls that are interrupted, and how long after their begin at most: longer than they take.
INTERRUPTIONS = 1500
LATEST_S = 300e-6


def commit(rig: Rig, member: GroupMembership) -> None:
    member.commit({(1, 0): (1, "")})


def follow(rig: Rig, member: GroupMembership) -> None:
    rig.members().raise_generation()
    poll(rig, member)


def come_and_go(rig: Rig, member: GroupMembership) -> None:
    member.leave()
    member.join([1])


@pytest.mark.parametrize("operation", [commit, follow, come_and_go])
def test_an_interrupted_call_has_given_the_mutex_back(
    tmp_path: Path, operation: Callable[[Rig, GroupMembership], None]
):
    rig = Rig(tmp_path, {1: 2})
    pid = os.fork()
    if pid == 0:
        held = 255
        try:
            held = min(interrupted(rig, operation), 100)
        finally:
            os._exit(held)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "calls that kept the mutex"
    settle(rig, rig.join(1))
    os.close(rig.hot_fd)


class Alarm:
    """Raises KeyboardInterrupt once, some time after `set`; a finalizer may swallow that."""

    def __init__(self) -> None:
        self.rang = False
        signal.signal(signal.SIGALRM, self._ring)

    def set(self, after_s: float) -> None:
        self.rang = False
        signal.setitimer(signal.ITIMER_REAL, after_s)

    def _ring(self, *_: object) -> None:
        self.rang = True
        raise KeyboardInterrupt


def interrupted(rig: Rig, operation: Callable[[Rig, GroupMembership], None]) -> int:
    """How often the mutex was still held when the program saw the exception."""
    member = rig.join(1)
    table = rig.members()._table
    chance = random.Random(1)
    alarm = Alarm()
    held = 0
    for _ in range(INTERRUPTIONS):
        member.join([1])
        settle(rig, member)
        try:
            alarm.set(chance.uniform(1e-6, LATEST_S))
            operation(rig, member)
            while not alarm.rang:
                # CPython may forget a signal that comes in the instant in which it takes the GIL
                # again (COMPUTE_EVAL_BREAKER); the next time it takes it, it looks.
                time.sleep(0)
        except KeyboardInterrupt as error:
            assert error.__traceback__  # it keeps alive what was interrupted
            held += table.owner_tid != 0
    return held
