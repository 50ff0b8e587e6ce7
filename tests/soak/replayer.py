"""A reader without a group that begins anywhere, reads a while, and jumps somewhere else.

python -m tests.soak.replayer DIRECTORY ORDERS
"""

import time
from typing import Final

import bus
from bus.errors import BusError
from tests.soak.history import CLOSED, GOT, OPEN, SEEK
from tests.soak.reading import runs_of
from tests.soak.worker import Worker

_POLL_MS: Final = 200.0
_PAUSE_S: Final = 0.2
_POLLS_MAX: Final = 12


class Replayer:
    """Reads the same records again and again, hot and durable, and writes down what they are."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = ""

    def run(self) -> None:
        """Until the worker shall end."""
        lives = 0
        while self._worker.goes_on:
            lives += 1
            self._reader = f"{self._worker.name}.{lives}"
            self._worker.diary.write(OPEN, self._reader, None)
            try:
                with self._worker.operation():
                    consumer = bus.Consumer(
                        bootstrap_servers=self._worker.path,
                        client_id=self._reader,
                        auto_offset_reset="earliest",
                        read_until=self._worker.orders["read_until"],
                        max_poll_records=200,
                    )
                with consumer:
                    self._read(consumer)
            except BusError as error:
                self._worker.note_error("replay", error)
                time.sleep(_PAUSE_S)
            self._worker.diary.write(CLOSED, self._reader, True)

    def _read(self, consumer: bus.Consumer) -> None:
        while self._worker.goes_on:
            topic = self._worker.dice.choice(self._worker.orders["topics"])
            numbers = sorted(consumer.partitions_for_topic(topic) or ())
            if not numbers:
                time.sleep(_PAUSE_S)
                continue
            where = bus.TopicPartition(topic, self._worker.dice.choice(numbers))
            consumer.assign([where])
            start = consumer.beginning_offsets([where])[where]
            end = max(consumer.end_offsets([where])[where], start)
            offset = self._worker.dice.choice((start, self._worker.dice.randint(start, end)))
            self._worker.diary.write(SEEK, self._reader, *where, offset)
            consumer.seek(where, offset)
            for _ in range(self._worker.dice.randrange(1, _POLLS_MAX)):
                self._poll(consumer)
            time.sleep(_PAUSE_S)

    def _poll(self, consumer: bus.Consumer) -> None:
        asked = time.monotonic_ns()
        with self._worker.operation():
            polled = consumer.poll(timeout_ms=_POLL_MS)
        for records in polled.values():
            for run in runs_of(records):
                self._worker.diary.write(GOT, self._reader, asked, run, 0, 0)


if __name__ == "__main__":
    Replayer(Worker()).run()
