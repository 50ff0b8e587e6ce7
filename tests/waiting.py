"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Between two looks at the condition.
PAUSE_S = 0.002


def eventually(condition: Callable[[], T], deadline_s: float = 10.0, what: str = "") -> T:
    """Returns the condition's value as soon as it is true; fails the test after `deadline_s`.

    The message gives `what`, or the condition's own text, and the last value seen.
    """
    limit = time.monotonic() + deadline_s
    value = condition()
    while not value:
        if time.monotonic() > limit:
            named = what or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"not within {deadline_s} s: {named}; last value: {value!r}")
        time.sleep(PAUSE_S)
        value = condition()
    return value


def never(condition: Callable[[], object], within_s: float, what: str = "") -> None:
    """Fails the test if the condition comes true within `within_s` seconds."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        value = condition()
        if value:
            named = what or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"within {within_s} s: {named}: {value!r}")
        time.sleep(PAUSE_S)
