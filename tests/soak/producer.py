"""A producer that writes down what it is about to send, and what became of it.

    python -m tests.soak.producer DIRECTORY ORDERS

Nothing is ever sent twice: after an error the next sequence number goes on.
"""

import time
from typing import Final

import bus
from bus.errors import BusError
from tests.soak.history import DURABLE, REFUSED, SEND, STORED
from tests.soak.payload import VALUE_BYTES_MAX, Name, key_of, value_of
from tests.soak.worker import Worker

#: `send` gives up after so many ms without room; a future after so many seconds.
MAX_BLOCK_MS: Final = 8_000
ACK_S: Final = 12.0
_BURST_MAX: Final = 20
_BATCH_MAX: Final = 150
_BATCH_SHARE: Final = 0.2
_KEYS: Final = 40
#: The largest value of a size class, and its share of all records.
_SIZES: Final = ((23, 5), (1000, 80), (16 << 10, 12), (64 << 10, 2.5), (VALUE_BYTES_MAX, 0.5))
_PAUSE_S: Final = 0.05

Record = tuple[int, bytes, bytes | None]


class Sender:
    """Sends bursts and batches at a given rate."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._dice = worker.dice
        self._id: int = worker.orders["id"]
        self._acks = worker.orders["acks"]
        self._rate: float = worker.orders["bytes_per_s"]
        self._sequence = 0
        self._producer: bus.Producer | None = None

    def run(self) -> None:
        """Until the worker shall end."""
        due = time.monotonic()
        while self._worker.goes_on:
            late = time.monotonic() - due
            if late < 0:
                time.sleep(min(_PAUSE_S, -late))
                continue
            if late > 1.0:  # what was not sent while something was down is not made up for
                due = time.monotonic()
            due += self._step() / self._rate
        self._close()

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                with self._worker.operation():
                    producer.close(timeout=ACK_S)
            except BusError as error:
                self._worker.note_error("close", error)

    def _step(self) -> int:
        """One burst or batch; the bytes that it had."""
        try:
            with self._worker.operation():
                if self._producer is None:
                    self._producer = bus.Producer(
                        self._worker.path,
                        client_id=self._worker.name,
                        acks=self._acks,
                        max_block_ms=MAX_BLOCK_MS,
                    )
                return self._send(self._producer)
        except BusError as error:
            self._worker.note_error("send", error)
            return int(self._rate * _PAUSE_S)  # a breath, as if something had been sent

    def _records(self, count: int) -> list[Record]:
        sizes = self._dice.choices(
            [most for most, _ in _SIZES], [share for _, share in _SIZES], k=count
        )
        records = []
        for most in sizes:
            size = self._dice.randrange(most + 1)
            name = Name(self._id, self._sequence)
            key = b"k%d" % self._dice.randrange(_KEYS) if self._dice.random() < 0.6 else None
            records.append((name.sequence, value_of(name, size), key_of(name, size, key)))
            self._sequence += 1
        return records

    def _send(self, producer: bus.Producer) -> int:
        topic = self._dice.choice(self._worker.orders["topics"])
        many = self._dice.random() < _BATCH_SHARE
        records = self._records(self._dice.randrange(1, _BATCH_MAX if many else _BURST_MAX))
        first = records[0][0]
        self._worker.diary.write(SEND, self._id, self._acks, topic, first, len(records))
        (self._send_many if many else self._send_each)(producer, topic, records)
        return sum(len(value) for _, value, _ in records)

    def _send_each(self, producer: bus.Producer, topic: str, records: list[Record]) -> None:
        rows: list[list[int]] = []
        failure: BusError | None = None
        for sequence, value, key in records:
            try:
                future = producer.send(topic, value, key=key)
            except BusError as error:
                failure = error
                break
            rows.append([sequence, future.partition, future.offset])
        refused = [sequence for sequence, _, _ in records[len(rows) :]]
        if failure is not None:
            self._worker.diary.write(REFUSED, self._id, refused, type(failure).__name__)
        if rows:
            self._settle(producer, rows)
        if failure is not None:
            raise failure

    def _send_many(self, producer: bus.Producer, topic: str, records: list[Record]) -> None:
        """If it fails, nobody knows which ones are stored. The future is the last record's."""
        values = [value for _, value, _ in records]
        keys = [key for _, _, key in records]
        future = producer.send_many(topic, values, keys=keys)
        rows = [[sequence, -1, -1] for sequence, _, _ in records]
        rows[-1][1:] = [future.partition, future.offset]
        self._settle(producer, rows)

    def _settle(self, producer: bus.Producer, rows: list[list[int]]) -> None:
        self._worker.diary.write(STORED, self._id, rows)
        if self._acks == "all":
            producer.flush(timeout=ACK_S)
            self._worker.diary.write(DURABLE, self._id, [row[0] for row in rows])


if __name__ == "__main__":
    Sender(Worker()).run()
