"""A member of a group that writes down what it is given, before it goes on or commits.

python -m tests.soak.consumer DIRECTORY ORDERS
"""

import re
import time
from typing import Final

import bus
from bus.errors import BusError, IllegalStateError
from bus.native.core import ConsumerRecord
from tests.soak.history import CLOSED, COMMIT, GOT, OPEN, START
from tests.soak.reading import runs_of
from tests.soak.worker import Worker

POLL_MS: Final = 300.0
_COMMIT_MS: Final = 400
_PAUSE_S: Final = 0.05
#: A consumer lives so long, in seconds; then it leaves, and another one joins.
_LIFE_S: Final = (3.0, 20.0)


class Member:
    """Joins, reads, leaves and joins again."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._orders = worker.orders
        self._lives = 0
        self._reader = ""
        self._expected: dict[tuple[str, int], int] = {}
        self._done: dict[tuple[str, int], int] = {}

    def run(self) -> None:
        """Until the worker shall end."""
        while self._worker.goes_on:
            self._lives += 1
            self._reader = f"{self._worker.name}.{self._lives}"
            self._expected, self._done = {}, {}
            clean = False
            try:
                with self._worker.operation():
                    consumer = self._join()
                try:
                    self._live(consumer)
                    clean = True
                finally:
                    with self._worker.operation():
                        consumer.close()
            except BusError as error:
                clean = False
                self._worker.note_error("read", error)
                time.sleep(_PAUSE_S)
            finally:
                self._worker.diary.write(CLOSED, self._reader, clean)

    def _join(self) -> bus.Consumer:
        self._worker.diary.write(OPEN, self._reader, self._orders["group"])
        consumer = bus.Consumer(
            bootstrap_servers=self._worker.path,
            client_id=self._reader,
            group_id=self._orders["group"],
            auto_offset_reset="earliest",
            enable_auto_commit=self._orders["auto_commit"],
            auto_commit_interval_ms=_COMMIT_MS,
            read_until=self._orders["read_until"],
            partition_assignment_strategy=self._orders["strategy"],
            consumer_timeout_ms=POLL_MS,
            max_poll_records=self._worker.dice.choice((1, 20, 500)),
        )
        try:
            if self._orders["pattern"]:
                consumer.subscribe(pattern=re.compile(self._orders["pattern"]))
            else:
                consumer.subscribe(self._orders["topics"])
        except BaseException:
            consumer.close()
            raise
        return consumer

    def _live(self, consumer: bus.Consumer) -> None:
        until = time.monotonic() + self._worker.dice.uniform(*_LIFE_S)
        while self._worker.goes_on and (self._orders["stays"] or time.monotonic() < until):
            if self._orders["iterates"]:
                self._iterate(consumer)
            else:
                self._poll(consumer)

    def _poll(self, consumer: bus.Consumer) -> None:
        asked, before = time.monotonic_ns(), self._announced(consumer)
        with self._worker.operation():
            polled = consumer.poll(timeout_ms=POLL_MS)
        for records in polled.values():
            self._note(consumer, records, asked, before)
        if not self._orders["auto_commit"]:
            runs = [run for one in polled.values() for run in runs_of(one)]
            ends = {(run[0], run[1]): run[2] + len(run[3]) for run in runs}
            self._commit(consumer, ends or self._moved(consumer))

    def _moved(self, consumer: bus.Consumer) -> dict[tuple[str, int], int]:
        """Positions that moved without a record: across a gap that a loss of memory has left."""
        moved = {}
        with self._worker.operation():
            for tp in consumer.assignment():
                try:
                    position = consumer.position(tp)
                except IllegalStateError:
                    continue  # it went to another member just now
                if position > self._done.get((tp.topic, tp.partition), 0):
                    moved[tp.topic, tp.partition] = position
        return moved

    def _iterate(self, consumer: bus.Consumer) -> None:
        """Each record is written down before the next one is asked for."""
        while self._worker.goes_on:
            asked, before = time.monotonic_ns(), self._announced(consumer)
            with self._worker.operation():
                record = next(consumer, None)
            if record is None:
                return
            self._note(consumer, [record], asked, before)

    def _announced(self, consumer: bus.Consumer) -> int:
        """What the bus has said so far about records that this consumer will not get."""
        figures = consumer.metrics()["consumer-fetch-manager-metrics"]
        return self._worker.announced.count + int(figures["records-skipped"])

    def _note(
        self, consumer: bus.Consumer, records: list[ConsumerRecord], asked: int, before: int
    ) -> None:
        runs, after = runs_of(records), self._announced(consumer)
        for topic, partition, first, names in runs:
            expected = self._expected.get((topic, partition))
            self._expected[topic, partition] = first + len(names)
            if expected != first:
                self._note_start(consumer, topic, partition)
        for run in runs:
            self._worker.diary.write(GOT, self._reader, asked, run, before, after)

    def _note_start(self, consumer: bus.Consumer, topic: str, partition: int) -> None:
        """The log start tells whether what was jumped over has been deleted."""
        where = bus.TopicPartition(topic, partition)
        try:
            start = consumer.beginning_offsets([where])[where]
        except BusError as error:
            self._worker.note_error("beginning_offsets", error)
        else:
            self._worker.diary.write(START, topic, partition, start)

    def _commit(self, consumer: bus.Consumer, ends: dict[tuple[str, int], int]) -> None:
        if not ends:
            return
        asked, failure = time.monotonic_ns(), ""
        try:
            with self._worker.operation():
                consumer.commit(
                    {
                        bus.TopicPartition(*where): bus.OffsetAndMetadata(end)
                        for where, end in ends.items()
                    }
                )
        except BusError as error:
            failure = type(error).__name__
            self._worker.note_error("commit", error)
        else:
            self._done |= ends
        rows = [[*where, end] for where, end in ends.items()]
        self._worker.diary.write(COMMIT, self._reader, self._orders["group"], asked, rows, failure)


if __name__ == "__main__":
    Member(Worker()).run()
