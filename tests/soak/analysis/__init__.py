"""The judge: from a history to its violations. Pure: no file, no clock, no process.

facts       a history as values
log         what the log holds: lost, duplicate, phantom, reordered, moved, refused, hole
delivery    what groups were given: skipped, redelivered, silent gap, commits that went back
trouble     errors that the bus may not raise, and memory that grows
"""

from tests.soak.analysis.delivery import judge_delivery
from tests.soak.analysis.facts import History, Violation
from tests.soak.analysis.log import judge_log
from tests.soak.analysis.trouble import judge_trouble

__all__ = ["History", "Violation", "judge"]


def judge(history: History) -> list[Violation]:
    """Everything that the bus did and must not do."""
    return [*judge_log(history), *judge_delivery(history), *judge_trouble(history)]
