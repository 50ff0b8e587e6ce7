"""Errors that a program may get in a storm, and those that it may not; memory that grows.

wrong error   an error that no kill, stop or full disk explains
memory        a broker or replica that is larger than its work needs
"""

from collections.abc import Iterator
from typing import Final

from tests.soak.analysis.facts import History, Violation

#: What a storm explains: nobody answers, no room, no time, a topic or partition that went.
EXPECTED: Final = frozenset(
    {
        "BackpressureError",
        "BrokerDiedError",
        "BrokerNotRunningError",
        "BusTimeoutError",
        "CommitFailedError",
        "LockTimeoutError",
        "NoSpaceError",
        "ReplyLostError",
        "UnknownTopicOrPartitionError",
    }
)
#: Of a broker or replica, with what it maps, in bytes: several times what they need.
RESIDENT_MAX: Final = {"broker": 400 << 20, "replica": 400 << 20}
DESCRIPTORS_MAX: Final = {"broker": 600, "replica": 200}


def judge_trouble(history: History) -> list[Violation]:
    """Errors and memory."""
    return [*_errors(history), *_memory(history)]


def _errors(history: History) -> Iterator[Violation]:
    for who, what, name, text in history.errors:
        if name not in EXPECTED:
            yield Violation("wrong error", f"{who}, {what}: {name}: {text}")


def _memory(history: History) -> Iterator[Violation]:
    for role, most in RESIDENT_MAX.items():
        sizes = [one for _, found, one, _ in history.memory if found == role]
        if max(sizes, default=0) > most:
            yield Violation("memory", f"a {role} takes {max(sizes)} bytes, {most} are allowed")
        counts = [one for _, found, _, one in history.memory if found == role]
        if max(counts, default=0) > DESCRIPTORS_MAX[role]:
            yield Violation("memory", f"a {role} has {max(counts)} open files")
