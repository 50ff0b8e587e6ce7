"""The bytes of a board: the file in shared memory in which a set of workers is described.

    0        header     words of `Head`, then the description (JSON, at most 3 KiB)
    4096     verdicts   VERDICTS_MAX entries of 8 words (`Verdict`), written by the supervisor
    …        blocks     one for each worker number: words of `Word`, then a histogram of
                        HISTOGRAM_WORDS words, SLOW_MAX entries for the slowest tasks (`Slow`),
                        then the task slots of 8 words each (`Slot`)
    …        flight     a ring of Head.FLIGHT_BYTES for each block: see workers/flight_ring.py

Every word is a u64 in the machine's order, aligned, and written by one process only: those of a
block by the worker that has its number, RSS_BYTES and all else by the supervisor. Readers take
what they see: a word is whole, two words may be of different moments. A task slot is read between
two looks at SINCE_NS, which is 0 while the slot changes.
"""

from enum import IntEnum
from typing import Final

MAGIC: Final = int.from_bytes(b"WORKERS1", "little")
WORD_BYTES: Final = 8
HEADER_BYTES: Final = 4096
DESCRIPTION_AT: Final = 1024
DESCRIPTION_BYTES_MAX: Final = HEADER_BYTES - DESCRIPTION_AT

#: Deaths that are remembered; a record that was hit is claimed again within milliseconds.
VERDICTS_MAX: Final = 1024
VERDICT_WORDS: Final = 8
VERDICTS_AT_WORD: Final = HEADER_BYTES // WORD_BYTES

#: Four buckets for each power of two of nanoseconds: a percentile is off by 19 % at most.
BUCKETS_PER_DOUBLING: Final = 4
HISTOGRAM_WORDS: Final = 64 * BUCKETS_PER_DOUBLING
SLOT_WORDS: Final = 8
#: The slowest tasks of a block that are kept.
SLOW_MAX: Final = 8
SLOW_WORDS: Final = 4
#: Tasks that one worker may run at once.
SLOTS_MAX: Final = 4096


class Head(IntEnum):
    """Words of the header."""

    MAGIC = 0
    BLOCKS = 1
    SLOTS = 2
    #: the supervisor's process and when it made the board (ns since 1970)
    PID = 3
    STARTED_NS = 4
    DESCRIPTION_BYTES = 5
    #: workers that ended unasked, by cause, and what was done about workers
    CRASHES = 6
    OUT_OF_MEMORY = 7
    RESTARTS = 8
    RECYCLED = 9
    TIMEOUT_KILLS = 10
    #: workers that had to be killed at the end, with work in hand
    KILLED_AT_END = 11
    #: verdicts written since the start; entry n is at n mod VERDICTS_MAX
    VERDICTS = 12
    #: the size of a block's flight ring; 0: no attempts are recorded
    FLIGHT_BYTES = 13


class Word(IntEnum):
    """Words of a block. Counters go on from one worker to the next with the same number."""

    STATE = 0
    PID = 1
    #: monotonic ns: process started, ready for tasks
    BORN_NS = 2
    READY_NS = 3
    #: tasks that this life has begun and ended
    LIFE_BEGUN = 4
    LIFE_ENDED = 5
    RSS_BYTES = 6
    DONE = 7
    FAILED = 8
    RETRIED = 9
    TIMEOUTS = 10
    DEAD = 11
    RELEASED = 12
    #: ns in all lives: from the start to ready, in `init`, waiting for tasks, in the handler
    START_NS = 13
    INIT_NS = 14
    WAIT_NS = 15
    WORK_NS = 16
    #: a task that took longer than this is one of the slowest
    SLOW_BAR_NS = 17
    #: records that were sent away by a limit, to come again later
    DEFERRED = 18
    HISTOGRAM = 32


class Slot(IntEnum):
    """Words of a task slot. SINCE_NS is 0 if there is no task in it."""

    SINCE_NS = 0
    #: monotonic ns; 0: no deadline
    DEADLINE_NS = 1
    PARTITION = 2
    OFFSET = 3
    #: place of the topic in the description's list
    TOPIC = 4


class Slow(IntEnum):
    """Words of one of the slowest tasks; TOOK_NS is 0 if there was none yet."""

    TOOK_NS = 0
    TOPIC = 1
    PARTITION = 2
    OFFSET = 3


class Verdict(IntEnum):
    """Words of a verdict: what ended the worker that ran a record."""

    #: number of the verdict + 1, written last: the entry is whole
    SERIAL = 0
    TOPIC = 1
    PARTITION = 2
    OFFSET = 3
    KIND = 4
    PID = 5
    #: exit code, or minus the signal, plus EXIT_BIAS
    EXIT = 6


EXIT_BIAS: Final = 1 << 16
#: Where a block has its slowest tasks, and its first task slot.
SLOW_AT_WORD: Final = Word.HISTOGRAM + HISTOGRAM_WORDS
SLOTS_AT_WORD: Final = SLOW_AT_WORD + SLOW_MAX * SLOW_WORDS


class State(IntEnum):
    """What a worker is doing."""

    ABSENT = 0
    STARTING = 1
    WAITING = 2
    WORKING = 3
    DRAINING = 4


def block_words(slots: int) -> int:
    """Words of a block with so many task slots."""
    return SLOTS_AT_WORD + slots * SLOT_WORDS


def blocks_at_word() -> int:
    """Where the first block begins."""
    return VERDICTS_AT_WORD + VERDICTS_MAX * VERDICT_WORDS


def flight_at(blocks: int, slots: int) -> int:
    """Where the first flight ring begins."""
    return (blocks_at_word() + blocks * block_words(slots)) * WORD_BYTES


def board_bytes(blocks: int, slots: int, flight_bytes: int = 0) -> int:
    """The size of the file."""
    return flight_at(blocks, slots) + blocks * flight_bytes


def bucket(ns: int) -> int:
    """The histogram's bucket of a duration."""
    if ns < BUCKETS_PER_DOUBLING:
        return max(ns, 0)
    exponent = ns.bit_length() - 1
    return min(exponent * BUCKETS_PER_DOUBLING + ((ns >> (exponent - 2)) & 3), HISTOGRAM_WORDS - 1)


def bucket_top_ns(index: int) -> int:
    """The longest duration that falls into a bucket."""
    exponent, quarter = divmod(index, BUCKETS_PER_DOUBLING)
    if exponent < 2:  # up to 3 ns; the second doubling begins no bucket
        return min(index, BUCKETS_PER_DOUBLING - 1)
    return ((BUCKETS_PER_DOUBLING + quarter + 1) << (exponent - 2)) - 1
