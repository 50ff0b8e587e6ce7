"""A worker's gate: a record passes if none of the pool's limits is in the way.

All limits of a record are asked under all their locks, which are taken in the order of their
names, and only then taken: no record holds a permit of one limit while it waits for another.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from workers.limit_table import LimitTable, Taken
from workers.limits import Limit, hash_of

logger = logging.getLogger(__name__)

#: A record comes again after this if somebody was stopped who had a lock.
STOPPED_MS: Final = 20.0
#: … or if too many keys are busy at once.
FULL_MS: Final = 1000.0
#: Between two words about that in the log.
_TELL_S: Final = 10.0
_NS_PER_MS: Final = 1e6
_FOR_ALL: Final = 1


class Pass(NamedTuple):
    """What a task has taken of its limits, until it ends."""

    parts: tuple[tuple[LimitTable, Taken], ...]

    def give_back(self) -> None:
        """The task has ended."""
        for table, taken in self.parts:
            table.give_back(taken)

    def undo(self) -> None:
        """The task was not begun with after all."""
        for table, taken in self.parts:
            table.undo(taken)


class Gate:
    """The limits of a pool, in one of its processes."""

    def __init__(self, limits: Sequence[Limit], names: Sequence[str]) -> None:
        """Opens their tables, or makes them. Raises LimitError."""
        self._tables: list[LimitTable] = []
        self._tell_at_s = 0.0
        with ExitStack() as undo:
            undo.callback(self.close)
            for limit, name in sorted(zip(limits, names, strict=True), key=lambda pair: pair[1]):
                self._tables.append(LimitTable.open(limit, name))
            undo.pop_all()

    def close(self) -> None:
        """Leaves the limits. Idempotent."""
        for table in self._tables:
            table.close()

    def ask(self, record: Any) -> Pass | float:
        """Passes the record, or says in how many ms it is to come again.

        Raises what a limit's `key` raises.
        """
        asked = []
        for table in self._tables:
            key = _FOR_ALL if table.limit.key is None else table.limit.key(record)
            if key is not None:
                asked.append((table, hash_of(key)))
        with ExitStack() as unlocking:
            for table, _ in asked:
                if not table.lock():
                    return STOPPED_MS
                unlocking.callback(table.unlock)
            return self._decide(asked)

    def _decide(self, asked: Sequence[tuple[LimitTable, int]]) -> Pass | float:
        now_ns = time.monotonic_ns()
        entries = []
        for table, key in asked:
            at = table.entry(key, now_ns)
            if at is None:
                return self._full(table)
            ready_ns = table.ready_ns(at, key, now_ns)
            if ready_ns > now_ns:
                return (table.turn(at, now_ns, ready_ns) - now_ns) / _NS_PER_MS
            entries.append((table, at, key))
        return Pass(tuple((table, table.take(at, key, now_ns)) for table, at, key in entries))

    def _full(self, table: LimitTable) -> float:
        now_s = time.monotonic()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + _TELL_S
            logger.warning(
                "limit %s (%s): too many keys are busy at once; records of others wait",
                table.name,
                table.limit,
            )
        return FULL_MS
