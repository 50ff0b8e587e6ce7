"""What is due to a task that runs longer than it may: decided without I/O.

80 % of its time       WARN   its worker is named in the log
its deadline           SOFT   TaskTimeout is raised in the handler
GRACE_S later          TERM   SIGTERM, for code that does not come back to Python
GRACE_S later          KILL   SIGKILL: this process only
"""

from enum import IntEnum
from typing import Final

from workers.block import Task

WARN_AT: Final = 0.8
GRACE_S: Final = 1.0
_NS: Final = 1_000_000_000


class Step(IntEnum):
    """The steps, in their order."""

    FINE = 0
    WARN = 1
    SOFT = 2
    TERM = 3
    KILL = 4


def step_of(task: Task, now_ns: int, grace_s: float = GRACE_S) -> Step:
    """The last step that is due at `now_ns` (monotonic)."""
    if not task.deadline_ns:
        return Step.FINE
    over_ns = now_ns - task.deadline_ns
    grace_ns = int(grace_s * _NS)
    if over_ns >= 2 * grace_ns:
        return Step.KILL
    if over_ns >= grace_ns:
        return Step.TERM
    if over_ns >= 0:
        return Step.SOFT
    allowed_ns = task.deadline_ns - task.since_ns
    return Step.WARN if now_ns - task.since_ns >= WARN_AT * allowed_ns else Step.FINE
