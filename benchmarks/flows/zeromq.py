"""pyzmq: PUSH and PULL over `ipc://`; large records without copies on either side."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import zmq

from benchmarks.flows.base import IN_PLACE_BYTES, Flow, touch

LINGER_MS = 30_000


class ZeroMqFlow(Flow):
    """PUSH/PULL with the default high-water marks of 1000 records."""

    name: ClassVar[str] = "pyzmq"

    def open(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bench-zmq-")
        self._address = f"ipc://{Path(self._directory.name) / 'socket'}"
        self._copy = self.record_bytes < IN_PLACE_BYTES

    def close(self) -> None:
        self._directory.cleanup()

    def attach_sender(self) -> None:
        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.connect(self._address)

    def attach_receiver(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(self._address)

    def detach(self) -> None:
        self._socket.close()
        self._context.term()

    def send_one(self, payload: bytes) -> object:
        return self._socket.send(payload, copy=self._copy)

    def send(self, payload: bytes, count: int) -> None:
        send, copy = self._socket.send, self._copy
        for _ in range(count):
            send(payload, copy=copy)

    def receive_one(self) -> int:
        if self._copy:
            return len(self._socket.recv())
        return touch(self._socket.recv(copy=False).buffer)

    def receive(self, count: int) -> int:
        if not self._copy:
            return super().receive(count)
        receive = self._socket.recv
        total = 0
        for _ in range(count):
            total += len(receive())
        return total
