"""Other users: child processes that became somebody else, and a bus that they can reach."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.buses import end_bus
from tests.children import Body, Child, Report

NOBODY = 65_534
ALICE, BOB, MALLORY = 61_001, 61_002, 61_003
STAFF = 62_001


def becoming(uid: int, body: Body, groups: tuple[int, ...] = ()) -> Body:
    """`body`, run by another user in these supplementary groups and in no other."""

    def run(report: Report) -> None:
        os.setgroups(list(groups))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        body(report)

    return run


def as_user(uid: int, body: Callable[[], object], groups: tuple[int, ...] = ()) -> Any:
    """What `body` returns, or the class and text of its error, in a process of another user."""

    def child(report: Report) -> None:
        try:
            report(body())
        except Exception as error:  # noqa: BLE001 - which one is the outcome of the test
            report([type(error).__name__, str(error)])

    process = Child(becoming(uid, child, groups))
    try:
        return process.next(40)
    finally:
        process.end()


@contextmanager
def reachable_bus(parent: Path) -> Iterator[Path]:
    """A bus directory that is not there yet, in a directory that everybody can enter.

    Ends as the fixture `bus_dir` does: stopped, checked, and nothing left.
    """
    parent.chmod(0o711)
    path = parent / "bus"
    yield path
    if path.exists():
        wrong = end_bus(path)
        assert not wrong, "\n".join(wrong)
