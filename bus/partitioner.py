"""Which partition a key belongs to. Pure functions of the key's bytes and the partition count."""

from collections.abc import Callable
from operator import index
from typing import Final

import mmh3

from bus.errors import BusConfigurationError
from bus.native.core import murmur2

Partitioner = Callable[[bytes, int], int]
#: kafka-python's own kind: (key, all partitions, available partitions) -> partition
KafkaPartitioner = Callable[[bytes, list[int], list[int]], int]

_POSITIVE: Final = 0x7FFFFFFF


def by_mmh3(key: bytes, partitions: int) -> int:
    """MurmurHash3 (x86, 32 bit, seed 0): the default, fast and well mixed."""
    return mmh3.hash(key, 0, False) % partitions


def by_murmur2(key: bytes, partitions: int) -> int:
    """Where Kafka's own producers and kafka-python put a key."""
    return (murmur2(key) & _POSITIVE) % partitions


NAMED: Final[dict[str, Partitioner]] = {"mmh3": by_mmh3, "murmur2": by_murmur2}


def partitioner_of(chosen: str | KafkaPartitioner) -> Partitioner:
    """The partitioner behind an option's value. Raises BusConfigurationError."""
    if callable(chosen):
        return _adapted(chosen)
    if chosen not in NAMED:
        raise BusConfigurationError(
            f"partitioner {chosen!r} is unknown; use one of {sorted(NAMED)}, or a callable"
            " (key, all_partitions, available_partitions)"
        )
    return NAMED[chosen]


def _adapted(function: KafkaPartitioner) -> Partitioner:
    def partition(key: bytes, partitions: int) -> int:
        everything = list(range(partitions))
        chosen = function(key, everything, everything)
        try:
            number = index(chosen)
        except TypeError:
            number = -1
        if not 0 <= number < partitions:
            raise BusConfigurationError(
                f"the partitioner chose {chosen!r}; the topic has partitions 0..{partitions - 1}"
            )
        return number

    return partition
