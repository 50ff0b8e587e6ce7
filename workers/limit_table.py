"""A limit's counts, in memory that all who use the limit share.

    table.lock() ─► entry(key) ─► ready_ns(entry) ─► take(entry), or turn(entry) ─► unlock()

Between `lock` and `unlock`, which are the caller's (workers/gate.py), all limits of a record are
asked before any of them is taken.
"""

import os
import random
import time
from abc import ABC, abstractmethod
from typing import Final, NamedTuple

from workers.limit_file import LimitFile
from workers.limit_layout import (
    ENTRY_WORDS,
    HEADER_WORDS,
    SETS,
    WAYS,
    Entry,
    Head,
    Kind,
    Permit,
    permits_at,
    table_bytes,
)
from workers.limit_rules import apart_ns, look_ns, mean_ns, ready_ns, taken, turn
from workers.limits import PERMITS_MAX, Limit, Rate
from workers.owners import Owners
from workers.post import start_ticks

#: For the lock: who has it needs some microseconds, unless it was stopped right then.
LOCK_WAIT_S: Final = 0.02
#: Between two looks for the dead among those that hold permits.
REAP_NS: Final = 10_000_000


class Taken(NamedTuple):
    """What a task has of a limit: what was stored in the key's entry, or a permit."""

    key: int
    entry: int
    since_ns: int
    #: of a rate: TAT_NS before and after
    before_ns: int = 0
    after_ns: int = 0
    #: of a permit
    place: int = -1


class LimitTable(ABC):
    """One limit, in one process. Use `open`. Attributes: `limit`, `name`."""

    def __init__(self, limit: Limit, name: str) -> None:
        """Opens the limit of that name, or makes it. Raises LimitError."""
        self.limit = limit
        self.name = name
        self._sets = 1 if limit.key is None else SETS
        self._interval_ns = limit.interval_ns if isinstance(limit, Rate) else 0
        self._burst = limit.burst if isinstance(limit, Rate) else 0
        kind = Kind.RATE if isinstance(limit, Rate) else Kind.CONCURRENCY
        head = (kind, limit.count, self._interval_ns, self._burst, self._sets)
        self._file = LimitFile(name, table_bytes(kind, self._sets), head)
        self._words = self._file.words
        self._draw = random.Random()
        self.unlock = self._file.unlock

    @staticmethod
    def open(limit: Limit, name: str) -> "LimitTable":
        """The table of a limit."""
        return (RateTable if isinstance(limit, Rate) else PermitTable)(limit, name)

    def close(self) -> None:
        """Leaves the limit. Idempotent."""
        self._file.close()

    def lock(self) -> bool:
        """Takes the lock; False if it could not be had soon."""
        return self._file.lock(LOCK_WAIT_S)

    # ------------------------------------------------------------------ under the lock

    def entry(self, key: int, now_ns: int) -> int | None:
        """The word at which the key's entry begins; None if too many other keys are busy."""
        words = self._words
        start = HEADER_WORDS + key % self._sets * WAYS * ENTRY_WORDS
        some = words[start : start + WAYS * ENTRY_WORDS].tolist()
        hashes = some[::ENTRY_WORDS]
        if key in hashes:
            return start + hashes.index(key) * ENTRY_WORDS
        for way, known in enumerate(hashes):
            at = start + way * ENTRY_WORDS
            if not known or self._is_idle(at, known, now_ns):
                words[at + Entry.HASH] = 0
                for word in (Entry.TAT_NS, Entry.QUEUE_NS, Entry.HEAD_NS):
                    words[at + word] = 0
                words[at + Entry.HASH] = key
                return at
        return None

    def turn(self, at: int, now_ns: int, ready_at_ns: int) -> int:
        """When a record comes again that may not begin before `ready_at_ns`."""
        words = self._words
        found = turn(
            now_ns,
            ready_at_ns,
            self._apart_ns(at),
            words[at + Entry.QUEUE_NS],
            words[at + Entry.HEAD_NS],
            self._draw.random(),
        )
        words[at + Entry.QUEUE_NS] = found.queue_ns
        words[at + Entry.HEAD_NS] = found.head_ns
        return found.at_ns

    @abstractmethod
    def _apart_ns(self, at: int) -> int:
        """How far from each other those come that wait."""

    @abstractmethod
    def _is_idle(self, at: int, key: int, now_ns: int) -> bool:
        """True if nothing is lost when the key is forgotten."""

    @abstractmethod
    def ready_ns(self, at: int, key: int, now_ns: int) -> int:
        """From when on a task of the key may begin; 0, or a time that is over: now."""

    @abstractmethod
    def take(self, at: int, key: int, now_ns: int) -> Taken:
        """A task begins."""

    # ------------------------------------------------------------------ without it

    def give_back(self, taken: Taken) -> None:
        """The task has ended."""

    def undo(self, taken: Taken) -> None:
        """The task was not begun with after all."""
        self.give_back(taken)


class RateTable(LimitTable):
    """The table of a Rate."""

    def _apart_ns(self, at: int) -> int:
        return self._interval_ns

    def _is_idle(self, at: int, key: int, now_ns: int) -> bool:
        words = self._words
        return bool(words[at + Entry.TAT_NS] <= now_ns and words[at + Entry.QUEUE_NS] <= now_ns)

    def ready_ns(self, at: int, key: int, now_ns: int) -> int:
        """See LimitTable."""
        return ready_ns(self._words[at + Entry.TAT_NS], self._interval_ns, self._burst)

    def take(self, at: int, key: int, now_ns: int) -> Taken:
        """See LimitTable."""
        before_ns = self._words[at + Entry.TAT_NS]
        after_ns = taken(before_ns, self._interval_ns, now_ns)
        self._words[at + Entry.TAT_NS] = after_ns
        self._words[at + Entry.HEAD_NS] = 0
        return Taken(key, at, now_ns, before_ns, after_ns)

    def undo(self, taken: Taken) -> None:
        """Gives the credit back, if nobody has begun since: else it is as if this one had."""
        words = self._words
        if not self.lock():
            return
        now = (words[taken.entry + Entry.HASH], words[taken.entry + Entry.TAT_NS])
        if now == (taken.key, taken.after_ns):
            words[taken.entry + Entry.TAT_NS] = taken.before_ns
        self.unlock()


class PermitTable(LimitTable):
    """The table of a Concurrency."""

    def __init__(self, limit: Limit, name: str) -> None:
        super().__init__(limit, name)
        first = permits_at(self._sets)
        columns = [
            self._words[first + column * PERMITS_MAX : first + (column + 1) * PERMITS_MAX]
            for column in Permit
        ]
        self._pids, self._ticks, self._keys = columns
        self._owners = Owners()
        self._me = (os.getpid(), start_ticks(os.getpid()) or 0)
        self._reap_due_ns = 0

    def close(self) -> None:
        """See LimitTable."""
        super().close()
        self._owners.close()

    def _apart_ns(self, at: int) -> int:
        return apart_ns(self._words[at + Entry.HOLD_NS], self.limit.count)

    def _is_idle(self, at: int, key: int, now_ns: int) -> bool:
        return self._words[at + Entry.QUEUE_NS] <= now_ns and not self._places_of(key)

    def _places_of(self, key: int) -> list[int]:
        """Where permits of the key are held."""
        high = self._words[Head.PERMITS_HIGH]
        pids, keys = self._pids[:high].tolist(), self._keys[:high].tolist()
        return [place for place, one in enumerate(keys) if one == key and pids[place]]

    def ready_ns(self, at: int, key: int, now_ns: int) -> int:
        """See LimitTable. Permits of the dead are free."""
        held = self._places_of(key)
        if len(held) < self.limit.count and self._free_place() is not None:
            return 0
        if now_ns >= self._reap_due_ns:
            self._reap_due_ns = now_ns + REAP_NS
            if self._reap():
                return self.ready_ns(at, key, now_ns)
        return now_ns + look_ns(self._words[at + Entry.HOLD_NS])

    def _reap(self) -> bool:
        """Frees what dead owners held; True if there was any."""
        found = False
        for place in range(self._words[Head.PERMITS_HIGH]):
            pid = self._pids[place]
            if pid and self._owners.is_dead(pid, self._ticks[place]):
                self._pids[place] = 0
                found = True
        return found

    def _free_place(self) -> int | None:
        high = self._words[Head.PERMITS_HIGH]
        pids = self._pids[:high].tolist()
        if 0 in pids:
            return pids.index(0)
        return high if high < PERMITS_MAX else None

    def take(self, at: int, key: int, now_ns: int) -> Taken:
        """See LimitTable."""
        place = self._free_place()
        assert place is not None, "ready_ns has seen a free place under this lock"
        if place >= self._words[Head.PERMITS_HIGH]:
            self._words[Head.PERMITS_HIGH] = place + 1
        self._keys[place] = key
        self._ticks[place] = self._me[1]
        self._pids[place] = self._me[0]  # last: from here on it counts
        self._words[at + Entry.HEAD_NS] = 0
        return Taken(key, at, now_ns, place=place)

    def give_back(self, taken: Taken) -> None:
        """See LimitTable. One store: no lock, and nothing that a death could leave half done."""
        words, at = self._words, taken.entry
        held_ns = time.monotonic_ns() - taken.since_ns
        if words[at + Entry.HASH] == taken.key:
            words[at + Entry.HOLD_NS] = mean_ns(words[at + Entry.HOLD_NS], held_ns)
        self._pids[taken.place] = 0

    def undo(self, taken: Taken) -> None:
        """See LimitTable."""
        self._pids[taken.place] = 0
