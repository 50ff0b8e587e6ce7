"""The bytes of a limit's table in shared memory.

    0        header    words of `Head`
    4096     keys      sets of WAYS entries of 4 words (`Entry`); one set if the limit has no key
    …        permits   of Concurrency alone: PERMITS_MAX words of each of `Permit`, one column
                       after the other

Every word is a u64 in the machine's order. All are written under the table's lock, but for PID of
a permit, which its owner sets to 0 without it, and HOLD_NS, which is a hint.

| dies under the lock                    | is left                                            |
|----------------------------------------|----------------------------------------------------|
| before TAT_NS is stored                | the key as it was                                  |
| after it, before the task begins       | one task less than might have begun                |
| while an entry is given to a new key   | HASH 0: a free entry                               |
| before PID of a permit is stored       | a free place                                       |
| after it                               | a permit of a dead owner: who needs it takes it    |

The kernel takes the lock from the dead.
"""

from enum import IntEnum
from typing import Final

from workers.limits import PERMITS_MAX

MAGIC: Final = int.from_bytes(b"WLIMITS1", "little")
WORD_BYTES: Final = 8
HEADER_WORDS: Final = 512
ENTRY_WORDS: Final = 4
WAYS: Final = 16
#: Sets of entries of a limit with a key: about 8,000 keys may be busy at a time before a set is
#: likely to be full.
SETS: Final = 1024


class Head(IntEnum):
    """Words of the header. MAGIC is written last."""

    MAGIC = 0
    KIND = 1
    COUNT = 2
    INTERVAL_NS = 3
    BURST = 4
    SETS = 5
    #: places of permits that were ever used
    PERMITS_HIGH = 6


class Kind(IntEnum):
    """What the limit is on."""

    RATE = 1
    CONCURRENCY = 2


class Entry(IntEnum):
    """Words of a key. Times are of the monotonic clock."""

    #: 0: nobody's
    HASH = 0
    #: Rate: when all credit is back ("theoretical arrival time" of GCRA)
    TAT_NS = 1
    #: Concurrency: how long a permit is held, on average
    HOLD_NS = 1
    #: when the last of those that were sent away comes again
    QUEUE_NS = 2
    #: until then one of them is about to come that is the next
    HEAD_NS = 3


class Permit(IntEnum):
    """Columns of the permits."""

    #: 0: a free place; stored last
    PID = 0
    START_TICKS = 1
    KEY = 2


def permits_at(sets: int) -> int:
    """The word at which permits begin."""
    return HEADER_WORDS + sets * WAYS * ENTRY_WORDS


def table_bytes(kind: Kind, sets: int) -> int:
    """The size of the file."""
    permits = len(Permit) * PERMITS_MAX if kind is Kind.CONCURRENCY else 0
    return (permits_at(sets) + permits) * WORD_BYTES
