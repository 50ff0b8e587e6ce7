"""Values of a format as a record holds them, and values that went through a bus."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy

import bus

#: a value of any format begins there
ALIGN = 64


def stored(serialized: Any) -> memoryview:
    """What a producer would append, read-only, where a record's value would begin."""
    data = serialized.join() if isinstance(serialized, bus.Parts) else bytes(serialized)
    return placed(data)


def placed(data: bytes) -> memoryview:
    """Bytes in memory as they lie in the log: read-only, at a multiple of 64."""
    room = numpy.zeros(len(data) + ALIGN, numpy.uint8)
    begin = -room.ctypes.data % ALIGN
    room[begin : begin + len(data)] = numpy.frombuffer(data, numpy.uint8)
    return memoryview(room)[begin : begin + len(data)].toreadonly()


def again(format: Any, value: Any) -> Any:
    """The value, written and read."""
    return format.deserialize(stored(format.serialize(value)))


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def sent(path: Path, topic: str, format: Any, values: Iterable[Any]) -> None:
    with bus.Producer(path, value_serializer=format) as producer:
        for value in values:
            producer.send(topic, value).get(20)


def records(path: Path, topic: str, format: Any, count: int) -> list[bus.ConsumerRecord]:
    """The first records of a topic; the consumer is closed."""
    found: list[bus.ConsumerRecord] = []
    with bus.Consumer(
        topic,
        bootstrap_servers=path,
        value_deserializer=format,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    ) as consumer:
        for record in consumer:
            found.append(record)
            if len(found) == count:
                break
    return found


def received(path: Path, topic: str, format: Any, count: int) -> list[Any]:
    """The values of the first records of a topic."""
    return [record.value for record in records(path, topic, format, count)]
