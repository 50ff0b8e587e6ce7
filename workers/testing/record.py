"""A record of a test: what a handler is called with instead of one of the bus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import bus
from workers.letters import Header

_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Has the attributes of bus.ConsumerRecord. Each is equal to itself alone, as those are."""

    topic: str
    partition: int
    offset: int
    timestamp_ns: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    timestamp_type: int = 0
    leader_epoch: int | None = None

    @property
    def topic_partition(self) -> bus.TopicPartition:
        """Topic and partition."""
        return bus.TopicPartition(self.topic, self.partition)

    @property
    def timestamp(self) -> int:
        """When it was sent, in ms since 1970."""
        return self.timestamp_ns // _NS_PER_MS

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key; -1 without one."""
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value; -1 without one."""
        return -1 if self.value is None else len(self.value)

    @property
    def serialized_header_size(self) -> int:
        """Bytes of all headers."""
        return sum(len(name.encode()) + len(value or b"") for name, value in self.headers)

    def view(self) -> memoryview:
        """The value in place."""
        return memoryview(self.value or b"")


def checked(value: object, what: str) -> bytes | None:
    """Bytes as they are; for anything else TypeError, as the bus without a serializer."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{what} must be bytes or None, not {type(value).__name__}: encode it")


def checked_headers(headers: Sequence[tuple[str, bytes | None]]) -> list[Header]:
    """Pairs of a name and bytes."""
    return [(str(name), checked(value, f"header {name!r}")) for name, value in headers]
