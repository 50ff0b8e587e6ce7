"""How far consumer groups lag behind a partition, and what a limit of it allows. Pure.

    records   offsets between the commit and the log end, without those that a recovery skipped
    bytes     bytes of frames between the commit and the log end, in this partition

A group counts from its commit; without one, or if that is below the log start, from the log start:
what cannot be read any more is no lag. A commit beyond the log end is one at the end. A group that
does not exist counts for nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from bus.catalog import Topic
from bus.offset_entries import Committed

#: no offset and no place reaches it
NOWHERE: Final = (1 << 64) - 1


@dataclass(frozen=True)
class LagLimits:
    """What a topic allows: -1 stands for no limit."""

    records: int
    bytes: int
    groups: tuple[str, ...]

    @classmethod
    def of(cls, topic: Topic) -> "LagLimits":
        """The limits of a topic's configs."""
        config = topic.config
        return cls(config.max_lag_records, config.max_lag_bytes, config.lag_groups)

    @property
    def is_set(self) -> bool:
        """True if there is one."""
        return self.records >= 0 or self.bytes >= 0


class GroupLag(NamedTuple):
    """Where one group stands. `offset`: the lag counts from there; `records`: the lag."""

    group: str
    group_id: int
    committed: Committed | None
    offset: int
    records: int


class Skipped(NamedTuple):
    """Offsets that were never given out, because the log was recovered after them."""

    start: int
    end: int

    def behind(self, offset: int) -> int:
        """How many of them lie at or behind the offset."""
        return max(self.end - max(offset, self.start), 0)


def records_between(offset: int, end: int, skipped: Skipped) -> int:
    """Records from `offset` to the log end."""
    return max(end - offset - skipped.behind(offset), 0)


def first_forbidden(lags: Iterable[GroupLag], limit: int, skipped: Skipped) -> int:
    """The smallest offset that may not be given out yet; NOWHERE if every one may."""
    if limit < 0:
        return NOWHERE - 1
    ends = (one.offset + limit + skipped.behind(one.offset) for one in lags)
    return min(min(ends, default=NOWHERE - 1), NOWHERE - 1)


def furthest_behind(lags: Iterable[GroupLag]) -> GroupLag | None:
    """Who has most to read."""
    return min(lags, key=lambda one: one.offset, default=None)
