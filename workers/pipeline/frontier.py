"""How far everything has come through a pipeline. Pure: it is told ends and lows, and asks nobody.

Time is counted in ticks. At tick t the ends of the sources are noted: what stands below them was
fed by then. When a stage has done all below the ends of its inputs, what it wrote because of that
stands below the ends of its output now, and these are the ends for tick t there. So t moves from
topic to topic, and when it has passed the last reader, all that was fed by t has come through: it
became results, or nothing, or dead letters. No record carries anything for that.

An end is read after the low that it follows from, and a low only grows; so a tick is told to have
passed too late, never too early.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

#: What is kept while a record takes for ever and others go on.
ENTRIES_MAX: Final = 512
T = TypeVar("T")
Places = Mapping[tuple[str, int], int]
Ends = Callable[[str], Places]


@dataclass(frozen=True)
class Reader:
    """A stage, or who takes the results: what it reads and writes. `low`: all below are done."""

    name: str
    inputs: tuple[str, ...]
    output: str | None
    low: Callable[[], Places]


@dataclass
class _Edge:
    """One topic, as one reader has still to pass it."""

    waiting: deque[tuple[int, Places]] = field(default_factory=deque)
    passed: int = -1

    def note(self, tick: int, ends: Places) -> None:
        # of ticks with the same ends only the last one counts: a stalled edge keeps few
        if self.waiting and self.waiting[-1][1] == ends:
            self.waiting.pop()
        self.waiting.append((tick, ends))
        thin(self.waiting)

    def move(self, low: Places) -> int:
        while self.waiting and _covers(low, self.waiting[0][1]):
            self.passed = self.waiting.popleft()[0]
        return self.passed


class Frontier:
    """`passed` is the last tick that has come through everything; -1 at first."""

    def __init__(self, sources: Iterable[str], readers: Iterable[Reader]) -> None:
        """`readers` in such an order that each one comes after those whose topics it reads."""
        self._sources = tuple(dict.fromkeys(sources))
        self._readers = tuple(readers)
        self._edges = {(one.name, topic): _Edge() for one in self._readers for topic in one.inputs}
        self._last = [one for one in self._readers if not self._is_read(one.output)]
        self._tick = -1
        self.passed = -1

    def _is_read(self, topic: str | None) -> bool:
        return any(topic in one.inputs for one in self._readers)

    @property
    def tick(self) -> int:
        """The last tick that was noted."""
        return self._tick

    def look(self, ends: Ends) -> int:
        """Begins a tick and moves all of them as far as they have come. Returns `passed`."""
        self._tick += 1
        for topic in self._sources:
            self._note(topic, self._tick, ends(topic))
        through = []
        for reader in self._readers:
            passed = self._move(reader, ends)
            if reader in self._last:
                through.append(passed)
        self.passed = min(through, default=-1)
        return self.passed

    def _move(self, reader: Reader, ends: Ends) -> int:
        edges = [self._edges[reader.name, topic] for topic in reader.inputs]
        before = min(edge.passed for edge in edges)
        low = reader.low()
        passed = min(edge.move(low) for edge in edges)
        if passed > before and reader.output is not None:
            self._note(reader.output, passed, ends(reader.output))
        return passed

    def _note(self, topic: str, tick: int, ends: Places) -> None:
        for reader in self._readers:
            if topic in reader.inputs:
                self._edges[reader.name, topic].note(tick, ends)


def thin(entries: deque[T]) -> None:
    """Every other entry of a long queue goes, but the last: what is known is coarser, not wrong."""
    if len(entries) > ENTRIES_MAX:
        for number in range(len(entries) - 2, -1, -2):
            del entries[number]


def _covers(low: Places, ends: Places) -> bool:
    return all(low.get(place, 0) >= end for place, end in ends.items())
