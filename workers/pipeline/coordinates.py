"""Where an output of a stage comes from, as its headers say.

    pipeline.from    STAGE TOPIC PARTITION OFFSET N    the n-th output for that record
    pipeline.order   bytes that compare as the results are to come

A stage that is given a record again looks for its outputs by these coordinates, and sends only
those that are missing. No name holds a space: topics and stages have Kafka's characters.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

FROM: Final = "pipeline.from"
ORDER: Final = "pipeline.order"
#: Header of what a source sends: which one of its items it is.
ITEM: Final = "pipeline.item"
Header = tuple[str, bytes | None]


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Coordinates(NamedTuple):
    """The n-th output of a stage for a record."""

    stage: str
    place: Place
    n: int

    def to_bytes(self) -> bytes:
        """As it stands in the header."""
        topic, partition, offset = self.place
        return f"{self.stage} {topic} {partition} {offset} {self.n}".encode()


def coordinates_of(headers: Iterable[Header]) -> Coordinates | None:
    """Whose output a record is; None if no stage has written it, or not in this way."""
    text = value_of(headers, FROM)
    words = text.decode(errors="replace").split(" ") if text else []
    if len(words) != 5 or not all(word.isdecimal() for word in words[2:]):
        return None
    stage, topic, partition, offset, n = words
    return Coordinates(stage, Place(topic, int(partition), int(offset)), int(n))


def value_of(headers: Iterable[Header], name: str) -> bytes | None:
    """The value of the first header with that name."""
    return next((value for known, value in headers if known == name), None)


def root_order(offset: int) -> bytes:
    """The order of a record of the source."""
    return offset.to_bytes(8, "big")


def child_order(order: bytes, n: int) -> bytes:
    """The order of the n-th output for a record of that order."""
    return order + n.to_bytes(4, "big")


def root_of(order: bytes) -> int:
    """The offset of the record of the source that all came from."""
    return int.from_bytes(order[:8], "big")
