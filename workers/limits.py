"""Limits on the tasks of pools: how many may begin in a time, and how many may run at once.

    Pool("pages", fetch, limits=[Rate(10, per_s=1, burst=5, key=host), Concurrency(2, key=host)])

A limit holds for all processes of this machine and user that use the same one, not for each
worker: its counts are in shared memory (workers/limit_table.py). A record that may not run yet
goes back, uncounted, and comes again later; meanwhile the worker does what else there is.
"""

import hashlib
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from workers.errors import LimitError

#: Tasks that may run at once under one limit, all keys together.
PERMITS_MAX: Final = 4096
_NS: Final = 1_000_000_000
_PERIOD_MAX_S: Final = 366 * 86_400

Key = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` tasks begin in `per_s` seconds, evenly; `burst` of them may begin at once.

    Over any stretch of time no more than burst + its length x count / per_s tasks begin. What was
    not used is kept up to `burst`. With `burst` 1 every delay of a worker is lost for good; a few
    more let the rate be reached.

    key: a function of the record: the limit holds for each of its values by itself. A record for
        which it gives None is under no limit. None: one limit for all records.
    name: all pools of this user that give the same name share one limit. None: it is the group's.

    Raises LimitError for values that make no sense.
    """

    count: int
    _: KW_ONLY
    per_s: float = 1.0
    burst: int = 1
    key: Key | None = field(default=None)
    name: str | None = None

    def __post_init__(self) -> None:
        _check_count("Rate", self.count, None)
        _check_count("burst", self.burst, None)
        if not 0 < self.per_s <= _PERIOD_MAX_S:
            raise LimitError(
                f"per_s must be above 0 and at most a year, not {self.per_s!r} seconds"
            )
        _check_key(self.key)

    @property
    def interval_ns(self) -> int:
        """Between two tasks; rounded up, so that there is never one too many."""
        return -int(-self.per_s * _NS // self.count)

    def __str__(self) -> str:
        return f"{self.count} per {self.per_s:g} s, at most {self.burst} at once"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `count` tasks run at once; those of a worker that is dead do not count.

    key, name: as in `Rate`. Raises LimitError for values that make no sense.
    """

    count: int
    _: KW_ONLY
    key: Key | None = field(default=None)
    name: str | None = None

    def __post_init__(self) -> None:
        _check_count("Concurrency", self.count, PERMITS_MAX)
        _check_key(self.key)

    def __str__(self) -> str:
        return f"{self.count} at a time"


Limit = Rate | Concurrency


def hash_of(value: Any) -> int:
    """A key's value as the word by which tables know it; never 0."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = b"b" + bytes(value)
    elif isinstance(value, str):
        data = b"s" + value.encode(errors="surrogatepass")
    else:
        data = b"r" + repr(value).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 1


def _check_count(what: str, count: object, most: int | None) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise LimitError(f"{what} must be a whole number from 1, not {count!r}")
    if most is not None and count > most:
        raise LimitError(f"{what} must be at most {most}, not {count}")


def _check_key(key: object) -> None:
    if key is not None and not callable(key):
        raise LimitError(f"key must be a function of the record, not {key!r}")
