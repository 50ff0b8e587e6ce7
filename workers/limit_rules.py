"""When a task may begin, and when one comes again that may not: decided without I/O.

**Rate** is GCRA (the leaky bucket of ITU-T I.371): one word holds when all credit will be back. A
task may begin unless that is further ahead than burst - 1 intervals, and moves it by an interval.

**Who may not begin** comes again when its turn should be: behind those that were sent away before,
an interval after the last of them. So of a thousand records that wait, one comes at a time. The
first one is the *head*: it comes as soon as it may begin, for if it were late by a moment and went
to the end of the queue, its turn would be lost. All times are ns of the monotonic clock.
"""

from typing import Final, NamedTuple

#: Who waits for longer looks again meanwhile: limits change, and records are done elsewhere.
LONGEST_NS: Final = 30_000_000_000
#: The head has so long to come before another one takes its place.
GRACE_NS: Final = 50_000_000
#: Concurrency: the head looks so often, and others come so far from each other.
LOOK_MIN_NS: Final = 1_000_000
LOOK_MAX_NS: Final = 50_000_000
APART_MAX_NS: Final = 100_000_000
#: The weight of the newest time in the mean.
_WEIGHT: Final = 8


class Turn(NamedTuple):
    """When a record comes again, and what the key's words are then."""

    at_ns: int
    queue_ns: int
    head_ns: int


def ready_ns(tat_ns: int, interval_ns: int, burst: int) -> int:
    """From when on a task may begin."""
    return max(0, tat_ns - (burst - 1) * interval_ns)


def taken(tat_ns: int, interval_ns: int, now_ns: int) -> int:
    """The word after a task has begun."""
    return max(tat_ns, now_ns) + interval_ns


def turn(
    now_ns: int, ready_ns: int, apart_ns: int, queue_ns: int, head_ns: int, chance: float
) -> Turn:
    """The turn of a record that may begin at `ready_ns` at the earliest.

    apart_ns: between two that wait. chance: from 0 to 1; what would have to wait for longer than
    LONGEST_NS comes after a part of it, not all at one time.
    """
    if now_ns >= head_ns and ready_ns - now_ns <= LONGEST_NS:
        return Turn(ready_ns, queue_ns, ready_ns + GRACE_NS)
    at_ns = max(queue_ns, ready_ns) + apart_ns
    if at_ns - now_ns > LONGEST_NS:
        return Turn(now_ns + int(LONGEST_NS * (1 + chance) / 2), queue_ns, head_ns)
    return Turn(at_ns, at_ns, head_ns)


def look_ns(hold_ns: int) -> int:
    """How soon the head looks again for a permit, if permits are held for so long."""
    return min(max(hold_ns // 8, LOOK_MIN_NS), LOOK_MAX_NS)


def apart_ns(hold_ns: int, count: int) -> int:
    """How far from each other those come that wait for one of `count` permits."""
    return min(max(hold_ns // count, LOOK_MIN_NS), APART_MAX_NS)


def mean_ns(mean_ns: int, new_ns: int) -> int:
    """The mean with one more time."""
    return new_ns if not mean_ns else mean_ns + (new_ns - mean_ns) // _WEIGHT
