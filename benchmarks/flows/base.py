"""What every transport must be able to do to take part."""

from abc import ABC, abstractmethod
from typing import ClassVar

#: Values of this size and more are read in place, a byte of each page; smaller ones become bytes.
IN_PLACE_BYTES = 64 * 1024
PAGE = 4096


def touch(data: bytes | memoryview) -> int:
    """Reads one byte of every page and returns how many bytes there are."""
    bytes(memoryview(data)[::PAGE])
    return len(data)


class Flow(ABC):
    """One direction from sending to receiving processes.

    The parent opens it before it forks and closes it at the end; each child attaches its own end.
    The loops are here and not in the scenario, so that no transport pays for an extra call.
    """

    name: ClassVar[str]
    #: Bytes to send before the clock starts, where a transport has memory to warm up.
    warm_bytes: ClassVar[int] = 0

    def __init__(self, record_bytes: int, *, spin: bool = False) -> None:
        self.record_bytes = record_bytes
        self.spin = spin

    @abstractmethod
    def open(self) -> None:
        """In the parent, before the fork."""

    def close(self) -> None:
        """In the parent, when all children have ended."""

    def attach_sender(self) -> None:
        """In a sending child, before the clock starts."""

    def attach_receiver(self) -> None:
        """In the receiving child, before the clock starts."""

    def detach(self) -> None:
        """In a child, after the clock has stopped."""

    @abstractmethod
    def send_one(self, payload: bytes) -> object:
        """Sends one record."""

    @abstractmethod
    def receive_one(self) -> int:
        """Waits for one record, reads it and returns its size."""

    def send(self, payload: bytes, count: int) -> None:
        """Sends `count` records with one call each."""
        send_one = self.send_one
        for _ in range(count):
            send_one(payload)

    def receive(self, count: int) -> int:
        """Receives `count` records and returns how many bytes they had."""
        receive_one = self.receive_one
        total = 0
        for _ in range(count):
            total += receive_one()
        return total


class BatchFlow(Flow):
    """A transport that also takes and hands out several records with one call."""

    @abstractmethod
    def send_batches(self, payload: bytes, count: int, batch: int) -> None:
        """Sends `count` records, `batch` with one call."""

    @abstractmethod
    def receive_batches(self, count: int) -> int:
        """Receives `count` records, as many with one call as there are."""
