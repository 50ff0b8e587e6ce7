"""What a worker of tiny tasks writes into its block: who has the task at once, figures in bulk.

A death must find the task that was in hand, so that is stored as each one begins and ends. What
figures count of tasks shorter than FIGURES_NS is gathered, and written once for a batch.
"""

import time
from typing import Final

from workers.block import Block
from workers.layout import SLOTS_AT_WORD, Slot, State, Word, bucket

#: Figures of a longer task are not held back.
FIGURES_NS: Final = 1_000_000
#: Words by number: each look at a member of an Enum costs as much as the store itself.
_SINCE: Final = SLOTS_AT_WORD + int(Slot.SINCE_NS)
_PARTITION: Final = SLOTS_AT_WORD + int(Slot.PARTITION)
_OFFSET: Final = SLOTS_AT_WORD + int(Slot.OFFSET)
_TOPIC: Final = SLOTS_AT_WORD + int(Slot.TOPIC)
_LIFE_BEGUN: Final = int(Word.LIFE_BEGUN)
_SLOW_BAR: Final = int(Word.SLOW_BAR_NS)


class Tally:
    """The first slot of a block, for tasks of one topic that run one after the other.

    Attribute: `begun` (tasks of this life).
    """

    def __init__(self, block: Block, topic: int) -> None:
        self._block = block
        self._words = block.words
        self._words[_TOPIC] = topic
        self._took_ns: list[int] = []
        self.begun = 0

    def begin(self, partition: int, offset: int) -> None:
        """A task is in hand from now on; the time is stored last: the slot is whole then."""
        words = self._words
        self.begun += 1
        words[_PARTITION] = partition
        words[_OFFSET] = offset
        words[_SINCE] = time.monotonic_ns()
        words[_LIFE_BEGUN] = self.begun

    def end(self) -> None:
        """The task is out of hand."""
        words = self._words
        took = time.monotonic_ns() - words[_SINCE]
        if took > FIGURES_NS or took > words[_SLOW_BAR]:
            self._block.end(0, Word.DONE)
            self.working()  # the batch goes on
            return
        words[_SINCE] = 0
        self._took_ns.append(took)

    def flush(self) -> None:
        """Counts what has ended."""
        took_ns, words = self._took_ns, self._words
        if took_ns:
            count = len(took_ns)
            words[Word.DONE] += count
            words[Word.WORK_NS] += sum(took_ns)
            words[Word.LIFE_ENDED] += count
            histogram = int(Word.HISTOGRAM)
            for took in took_ns:
                words[histogram + bucket(took)] += 1
            took_ns.clear()
        words[Word.STATE] = State.WAITING

    def working(self) -> None:
        """A batch begins."""
        self._words[Word.STATE] = State.WORKING
