"""Forks: what proves the parent alive is let go of in the child, and only there."""

import os

from bus.forks import drop_in_child


class Held:
    def __init__(self):
        self.calls = []

    def after_fork(self):
        self.calls.append(os.getpid())


def in_child(action):
    """The exit status of a forked child that runs `action`."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_child_is_told_before_its_own_code_runs_and_the_parent_is_not():
    held = Held()
    drop_in_child(held)
    assert in_child(lambda: 7 if held.calls == [os.getpid()] else 1) == 7
    assert held.calls == []


def test_the_child_of_a_child_is_told_too():
    held = Held()
    drop_in_child(held)
    assert in_child(lambda: in_child(lambda: len(held.calls))) == 2


def test_what_nobody_holds_any_more_is_forgotten():
    calls = []

    class Dropped:
        def after_fork(self):
            calls.append(1)

    drop_in_child(Dropped())
    assert in_child(lambda: len(calls)) == 0
