"""The standard library: `multiprocessing.Queue` and `multiprocessing.Pipe`."""

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from typing import ClassVar

from benchmarks.flows.base import Flow

_FORK = multiprocessing.get_context("fork")


class QueueFlow(Flow):
    """`Queue`: pickles, and a thread of the sender writes into a pipe under a lock."""

    name: ClassVar[str] = "multiprocessing.Queue"

    def open(self) -> None:
        self._queue: Queue[bytes] = _FORK.Queue()

    def close(self) -> None:
        self._queue.close()

    def send_one(self, payload: bytes) -> object:
        self._queue.put(payload)
        return None

    def send(self, payload: bytes, count: int) -> None:
        put = self._queue.put
        for _ in range(count):
            put(payload)

    def receive_one(self) -> int:
        return len(self._queue.get())

    def receive(self, count: int) -> int:
        get = self._queue.get
        total = 0
        for _ in range(count):
            total += len(get())
        return total


class PipeFlow(Flow):
    """`Pipe(duplex=False)` with `send_bytes` and `recv_bytes`: two system calls a record."""

    name: ClassVar[str] = "multiprocessing.Pipe"

    def open(self) -> None:
        ends: tuple[Connection, Connection] = _FORK.Pipe(duplex=False)
        self._reader, self._writer = ends

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def send_one(self, payload: bytes) -> object:
        self._writer.send_bytes(payload)
        return None

    def send(self, payload: bytes, count: int) -> None:
        send_bytes = self._writer.send_bytes
        for _ in range(count):
            send_bytes(payload)

    def receive_one(self) -> int:
        return len(self._reader.recv_bytes())

    def receive(self, count: int) -> int:
        receive = self._reader.recv_bytes
        total = 0
        for _ in range(count):
            total += len(receive())
        return total
