"""What must not survive in a forked child: locks and sockets that prove the parent alive.

A lock of an open file description, and a socket, end when the last descriptor of them is closed.
A child that kept copies would make a dead parent look alive, so the child closes them before it
runs a line of its own code.
"""

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """Something that a forked child must let go of."""

    def after_fork(self) -> None:
        """Called in the child, with only one thread running; must not raise."""


_registered: "weakref.WeakSet[Inherited]" = weakref.WeakSet()


def drop_in_child(inherited: Inherited) -> None:
    """Have `inherited.after_fork()` called in every child that this process forks from now on."""
    _registered.add(inherited)


def _after_fork_in_child() -> None:
    for inherited in list(_registered):
        inherited.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
