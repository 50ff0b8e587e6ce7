"""The block of one worker on the board: written by the worker, read by everybody.

block.begin(slot, topic, partition, offset, deadline_ns)  …  block.end(slot, Word.DONE)
"""

import time
from dataclasses import dataclass

from workers.layout import (
    HISTOGRAM_WORDS,
    SLOT_WORDS,
    SLOTS_AT_WORD,
    SLOW_AT_WORD,
    SLOW_MAX,
    SLOW_WORDS,
    Slot,
    State,
    Word,
    bucket,
)

_FIRST_SLOT = int(SLOTS_AT_WORD)


@dataclass(frozen=True, slots=True)
class Task:
    """A task that a worker has in hand: which record, and since when (monotonic ns)."""

    slot: int
    topic: int
    partition: int
    offset: int
    since_ns: int
    #: 0: it may take as long as it likes
    deadline_ns: int

    @property
    def where(self) -> tuple[int, int, int]:
        """Topic, partition and offset."""
        return self.topic, self.partition, self.offset


@dataclass(frozen=True, slots=True)
class SlowTask:
    """One of the slowest tasks that were finished: which record, and how long it took (ns)."""

    took_ns: int
    topic: int
    partition: int
    offset: int


class Block:
    """The words of one worker; see workers/layout.py."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.slots = (len(words) - _FIRST_SLOT) // SLOT_WORDS

    # ------------------------------------------------------------------ for the worker

    def born(self, pid: int) -> None:
        """Begins a life. What counts lives together goes on."""
        words = self.words
        for slot in range(self.slots):
            words[_at(slot) + Slot.SINCE_NS] = 0
        for word in (Word.READY_NS, Word.LIFE_BEGUN, Word.LIFE_ENDED, Word.RSS_BYTES):
            words[word] = 0
        words[Word.PID] = pid
        words[Word.BORN_NS] = time.monotonic_ns()
        words[Word.STATE] = State.STARTING

    def ready(self, init_ns: int) -> None:
        """The worker can take tasks."""
        words, now = self.words, time.monotonic_ns()
        words[Word.READY_NS] = now
        words[Word.START_NS] += max(0, now - words[Word.BORN_NS] - init_ns)
        words[Word.INIT_NS] += init_ns
        words[Word.STATE] = State.WAITING

    def begin(
        self, slot: int, topic: int, partition: int, offset: int, since_ns: int, deadline_ns: int
    ) -> None:
        """A task is in hand from now on. SINCE_NS is written last: the slot is whole then."""
        words, at = self.words, _FIRST_SLOT + slot * SLOT_WORDS
        words[at + 1] = deadline_ns
        words[at + 2] = partition
        words[at + 3] = offset
        words[at + 4] = topic
        words[at] = since_ns
        words[Word.LIFE_BEGUN] += 1
        words[Word.STATE] = State.WORKING

    def end(self, slot: int, outcome: Word) -> int:
        """The task is out of hand, and counted as `outcome`; returns how long it took (ns)."""
        words, at = self.words, _FIRST_SLOT + slot * SLOT_WORDS
        took = time.monotonic_ns() - words[at]
        words[at] = 0
        words[outcome] += 1
        words[Word.WORK_NS] += took
        words[Word.HISTOGRAM + bucket(took)] += 1
        words[Word.LIFE_ENDED] += 1
        if took > words[Word.SLOW_BAR_NS]:
            self._keep_slow(took, at)
        if words[Word.LIFE_ENDED] == words[Word.LIFE_BEGUN]:
            words[Word.STATE] = State.WAITING
        return took

    def _keep_slow(self, took_ns: int, at: int) -> None:
        """Puts a task in the place of the fastest one that was kept."""
        words = self.words
        places = [SLOW_AT_WORD + number * SLOW_WORDS for number in range(SLOW_MAX)]
        place = min(places, key=words.__getitem__)
        words[place] = 0  # who reads it meanwhile sees that it is not whole
        words[place + 1] = words[at + Slot.TOPIC]
        words[place + 2] = words[at + Slot.PARTITION]
        words[place + 3] = words[at + Slot.OFFSET]
        words[place] = took_ns
        words[Word.SLOW_BAR_NS] = min(words[one] for one in places)

    def extend(self, slot: int, deadline_ns: int) -> None:
        """The task may go on until then; 0: as long as it likes."""
        self.words[_at(slot) + Slot.DEADLINE_NS] = deadline_ns

    # ------------------------------------------------------------------ for the supervisor

    def gone(self) -> None:
        """The worker is dead; the block is free for the next one."""
        for slot in range(self.slots):
            self.words[_at(slot) + Slot.SINCE_NS] = 0
        self.words[Word.PID] = 0
        self.words[Word.RSS_BYTES] = 0
        self.words[Word.STATE] = State.ABSENT

    # ------------------------------------------------------------------ for everybody

    def __getitem__(self, word: Word) -> int:
        return int(self.words[word])

    def task(self, slot: int) -> Task | None:
        """What is in a slot; None if nothing is, or if it changes at this moment."""
        words, at = self.words, _at(slot)
        since = words[at + Slot.SINCE_NS]
        if not since:
            return None
        task = Task(
            slot,
            words[at + Slot.TOPIC],
            words[at + Slot.PARTITION],
            words[at + Slot.OFFSET],
            since,
            words[at + Slot.DEADLINE_NS],
        )
        return task if words[at + Slot.SINCE_NS] == since else None

    def tasks(self) -> list[Task]:
        """All tasks in hand."""
        found = (self.task(slot) for slot in range(self.slots))
        return [task for task in found if task is not None]

    def since_ns(self, slot: int) -> int:
        """When the task in a slot was begun (monotonic ns); 0: there is none."""
        return int(self.words[_FIRST_SLOT + slot * SLOT_WORDS])

    def slowest(self) -> list[SlowTask]:
        """The slowest tasks of all that had this block, the slowest first."""
        found = []
        for number in range(SLOW_MAX):
            at = SLOW_AT_WORD + number * SLOW_WORDS
            took_ns, topic, partition, offset = self.words[at : at + SLOW_WORDS]
            if took_ns:
                found.append(SlowTask(took_ns, topic, partition, offset))
        return sorted(found, key=lambda one: -one.took_ns)

    def is_running(self, task: Task) -> bool:
        """True if that task, and not a later one, is still in its slot."""
        return bool(self.words[_at(task.slot) + Slot.SINCE_NS] == task.since_ns)

    def histogram(self) -> list[int]:
        """Tasks by duration: counts of the buckets of workers/layout.py."""
        return self.words[Word.HISTOGRAM : Word.HISTOGRAM + HISTOGRAM_WORDS].tolist()


def _at(slot: int) -> int:
    return int(_FIRST_SLOT + slot * SLOT_WORDS)
