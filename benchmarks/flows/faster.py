"""faster-fifo: a circular buffer under a process-shared mutex, with `put_many` and `get_many`."""

from typing import Any, ClassVar

from faster_fifo import Queue

from benchmarks.flows.base import BatchFlow

#: The queue takes at least this many bytes; its documentation uses 1 to 20 MB.
BUFFER_BYTES = 20_000_000
#: A large record must fit several times.
RECORDS_IN_BUFFER = 16
TIMEOUT_S = 60.0


class FasterFifoFlow(BatchFlow):
    """Default use: any object, pickled."""

    name: ClassVar[str] = "faster-fifo"

    def open(self) -> None:
        size = max(BUFFER_BYTES, self.record_bytes * RECORDS_IN_BUFFER)
        self._queue: Any = Queue(size)

    def close(self) -> None:
        self._queue.close()

    def send_one(self, payload: bytes) -> object:
        return self._queue.put(payload, timeout=TIMEOUT_S)

    def receive_one(self) -> int:
        return len(self._queue.get(timeout=TIMEOUT_S))

    def receive(self, count: int) -> int:
        get = self._queue.get
        total = 0
        for _ in range(count):
            total += len(get(timeout=TIMEOUT_S))
        return total

    def send_batches(self, payload: bytes, count: int, batch: int) -> None:
        put_many = self._queue.put_many
        for _ in range(count // batch):
            put_many([payload] * batch, timeout=TIMEOUT_S)

    def receive_batches(self, count: int) -> int:
        get_many = self._queue.get_many
        seen = total = 0
        while seen < count:
            records = get_many(timeout=TIMEOUT_S, max_messages_to_get=count - seen)
            for record in records:
                total += len(record)
            seen += len(records)
        return total


class FasterFifoRawFlow(FasterFifoFlow):
    """The same without pickle: bytes go in and come out as they are."""

    name: ClassVar[str] = "faster-fifo, bytes"

    def open(self) -> None:
        self._queue = Queue(BUFFER_BYTES, loads=bytes, dumps=_as_it_is)


def _as_it_is(payload: bytes) -> bytes:
    return payload
