"""The words of a control page that hold appenders up while consumers lag, worked out anew.

`lag_gate` and `lag_tail` are hints: up to there nobody has to look. An appender that reaches them
looks at the commits itself, in the groups' own files, and writes how far the next ones may go. So
no broker is asked, a commit costs its consumer a look at one word, and a word that was written over
costs a look, or a little more lag until the broker's next round.

Guarantees: the words never promise more than the commits allow. Who writes them looks at the
commits (and at the topic's limits) once more afterwards; whoever moves a commit back, or a limit,
writes that first, and closes the gate then. One of the two sees the other.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

from bus.assignment import Partition as Key
from bus.catalog import Topic
from bus.directory import BusDirectory
from bus.lag import (
    NOWHERE,
    GroupLag,
    LagLimits,
    Skipped,
    first_forbidden,
    furthest_behind,
    records_between,
)
from bus.lag_bytes import ByteLag
from bus.lag_commits import Commits
from bus.native.core import Partition

#: looks in a row at commits or limits that move back meanwhile; the next append looks again
_LOOKS_MAX = 8


class Gate(NamedTuple):
    """What was found. `first`: the first offset that may not be given out. `place`: lag_tail."""

    limits: LagLimits
    lags: tuple[GroupLag, ...]
    first: int
    place: int
    #: bytes that the slowest group lags, -1 if there is no limit of them
    behind_bytes: int

    def is_slowest(self, lag: GroupLag) -> bool:
        """True if no group has more to read than that one of them."""
        return lag.offset == min(one.offset for one in self.lags)

    def holds(self, log: Partition) -> bool:
        """True if the next record has to wait."""
        number, position = log.tail
        return log.log_end_offset >= self.first or number << 32 | position >= self.place


class LagGate:
    """The gate of one partition, as one process looks at it. May be used from several threads."""

    def __init__(
        self,
        directory: BusDirectory,
        log: Partition,
        topic: Callable[[], Topic],
        version: Callable[[], int],
    ) -> None:
        """`version()` changes, before the gate is closed, when `topic()` gives another one."""
        self._log = log
        self._topic = topic
        self._version = version
        self._key: Key = (log.topic_id, log.partition)
        self._commits = Commits(directory)
        self._directory = directory
        self._bytes: ByteLag | None = None
        self._lock = threading.Lock()

    def look(self) -> Gate:
        """Work the words out from the commits, and write them. Raises what reading them raises."""
        with self._lock:
            for _ in range(_LOOKS_MAX):
                version = self._version()
                topic = self._topic()
                found = self._work_out(topic)
                self._write(found)
                if self._version() == version and not self._went_back(found):
                    return found
            self._log.close_lag_gate(True)
            return found

    def _work_out(self, topic: Topic) -> Gate:
        limits = LagLimits.of(topic)
        lags = self._lags(limits)
        skipped = Skipped(*self._log.skipped_offsets)
        first = first_forbidden(lags, limits.records, skipped)
        slowest = furthest_behind(lags)
        if limits.bytes < 0 or slowest is None:
            return Gate(limits, lags, first, NOWHERE, -1)
        if self._bytes is None:
            path = self._directory.partition_path(topic.name, self._log.partition)
            self._bytes = ByteLag(path, self._log)
        behind = self._bytes.behind(slowest.offset)
        return Gate(limits, lags, first, behind.place_of(limits.bytes), behind.bytes)

    def _lags(self, limits: LagLimits) -> tuple[GroupLag, ...]:
        """Each group as it stands now."""
        start, end = self._log.log_start_offset, self._log.log_end_offset
        skipped = Skipped(*self._log.skipped_offsets)
        found = []
        for group, group_id, committed in self._commits.of(limits.groups, self._key):
            offset = min(max(start, committed.offset if committed else 0), end)
            records = records_between(offset, end, skipped)
            found.append(GroupLag(group, group_id, committed, offset, records))
        return tuple(found)

    def _write(self, found: Gate) -> None:
        if found.limits.is_set:
            slowest = furthest_behind(found.lags)
            origin = NOWHERE if slowest is None else slowest.offset
            self._log.set_lag_gate(found.first + 1, found.place, origin)
        else:
            self._log.set_lag_gate(0, 0, 0)

    def _went_back(self, found: Gate) -> bool:
        """Whether a group stands further back than it did, or has come into being."""
        before = {one.group: one.offset for one in found.lags}
        now = self._lags(found.limits)
        return any(one.offset < before.get(one.group, NOWHERE) for one in now)


def inspect_gate(directory: BusDirectory, topic: Topic, log: Partition) -> Gate:
    """How far the consumers are, for people: nothing is written."""
    return LagGate(directory, log, lambda: topic, lambda: 0)._work_out(topic)
