"""The results of a pipeline, as its program takes them: as they come, or in order.

In order, a result waits in a heap until all that was fed before it has come through. How many wait
is bounded by what the topics between the stages may hold: while one slow record holds its stage's
topic up, nothing more than that comes behind it.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import bus
from bus import ConsumerRecord
from workers.pipeline.coordinates import ORDER, root_of, value_of
from workers.pipeline.edges import RESULTS, Edges
from workers.pipeline.frontier import Places
from workers.pipeline.graph import Graph
from workers.pipeline.values import reader_of

POLL_MS: Final = 50.0
#: While results wait for their turn, whose turn it is is looked at so often.
POLL_IN_ORDER_MS: Final = 2.0
COMMIT_S: Final = 0.05
_RECORDS_MAX: Final = 500


class Intake:
    """The consumer of the results: `positions` is how far they were read."""

    def __init__(self, graph: Graph, edges: Edges) -> None:
        self._read = {}
        for stage in graph.ends():
            topic = edges.topic_of(stage)
            assert topic is not None
            self._read[topic] = reader_of(stage.values)
        self._consumer = bus.Consumer(
            *self._read,
            bootstrap_servers=edges.address,
            group_id=edges.group_of(RESULTS),
            client_id=edges.name,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._positions: dict[tuple[str, int], int] = {}
        self._commit_at_s = 0.0

    def positions(self) -> Places:
        """Records below were read."""
        return self._positions

    def poll(self, timeout_ms: float) -> list[ConsumerRecord]:
        """What has come."""
        found = self._consumer.poll(timeout_ms, max_records=_RECORDS_MAX)
        for place in self._consumer.assignment():
            self._positions[place] = self._consumer.position(place)
        return [record for records in found.values() for record in records]

    def value(self, record: ConsumerRecord) -> Any:
        """What the stage gave."""
        return self._read[record.topic](record)

    @property
    def is_commit_due(self) -> bool:
        """True from time to time."""
        return time.monotonic() >= self._commit_at_s

    def commit(self, first_not_given: dict[tuple[str, int], int]) -> None:
        """All below was given to the program; `first_not_given` of places with more in hand."""
        self._commit_at_s = time.monotonic() + COMMIT_S
        offsets = {
            bus.TopicPartition(*place): bus.OffsetAndMetadata(first_not_given.get(place, position))
            for place, position in self._positions.items()
        }
        self._consumer.commit(offsets)

    def close(self) -> None:
        """Leaves the bus; arrays that the program holds stay readable."""
        self._consumer.close()


class Results(Iterator[Any]):
    """Iterates over the results; ends when all has come through."""

    def __init__(
        self,
        intake: Intake,
        is_over: Callable[[], bool],
        through: Callable[[], int] | None,
    ) -> None:
        """`is_over()` is True if no more will come; it raises what has gone wrong.

        `through()`: all results that came from items before this one have been read; None if they
        need no order.
        """
        self._intake = intake
        self._is_over = is_over
        self._through = through
        self._ready: deque[ConsumerRecord] = deque()
        self._waiting: list[tuple[bytes, int, int, ConsumerRecord]] = []
        self._count = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    @property
    def waiting(self) -> int:
        """Results that wait for their turn."""
        return len(self._waiting)

    def __next__(self) -> Any:
        while not self._ready:
            self._commit()
            over = self._is_over()  # looked at before the poll: then nothing comes after it
            records = self._intake.poll(POLL_IN_ORDER_MS if self._waiting else POLL_MS)
            if self._through is None:
                self._ready.extend(records)
            else:
                self._put_in_order(records, self._through)
            if over and not records and not self._waiting:
                self._intake.commit(self._first_not_given())
                raise StopIteration
        self._commit()
        return self._intake.value(self._ready.popleft())

    def _commit(self) -> None:
        if self._intake.is_commit_due:
            self._intake.commit(self._first_not_given())

    def _put_in_order(self, records: list[ConsumerRecord], through: Callable[[], int]) -> None:
        for record in records:
            order = value_of(record.headers, ORDER) or b""
            heapq.heappush(self._waiting, (order, self._count, root_of(order), record))
            self._count += 1
        if not self._waiting:
            return
        limit = through()
        while self._waiting and self._waiting[0][2] < limit:
            self._ready.append(heapq.heappop(self._waiting)[3])

    def _first_not_given(self) -> dict[tuple[str, int], int]:
        first: dict[tuple[str, int], int] = {}
        if self._through is None:
            for record in self._ready:
                first.setdefault(record.topic_partition, record.offset)
            return first
        for record in (*self._ready, *(entry[3] for entry in self._waiting)):
            place = record.topic_partition
            first[place] = min(record.offset, first.get(place, record.offset))
        return first
