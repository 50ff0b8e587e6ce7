"""Values in the log: where they lie, how often they are copied, and what errors say of them."""

import resource
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

import bus
from bus.errors import DeserializationError, SerializationError
from bus.serializers import Arrow, Numpy, Pickle
from tests.broker.rig import create_topic
from tests.children import Fork, Report
from tests.serializers.rig import ALIGN, address, records, sent

MIB = 1 << 20
BIG = 64 * MIB


def mapped_file(at: int) -> str:
    """The file that lies at an address of this process, "" if that is memory of its own."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(one, 16) for one in line.split()[0].split("-"))
        if begin <= at < end:
            return line.split(maxsplit=5)[5] if len(line.split()) > 5 else ""
    return ""


def buffers(value: Any) -> list[tuple[int, int]]:
    """(address, bytes) of the arrays of a value."""
    if isinstance(value, numpy.ndarray):
        return [(address(value), value.nbytes)]
    if isinstance(value, pyarrow.RecordBatch):
        found = [one for column in value.columns for one in column.buffers() if one]
        return [(one.address, one.size) for one in found]
    return [one for inner in value.values() for one in buffers(inner)]


VALUES = [
    (Numpy(), numpy.arange(3, dtype=numpy.uint8)),
    (Numpy(), numpy.arange(100_000.0)),
    (Pickle(), {"a": numpy.arange(7), "b": {"c": numpy.ones((200, 300))}}),
    (Arrow(), pyarrow.record_batch({"x": numpy.arange(5.0), "s": ["text", None, "", "a", "b"]})),
]


@pytest.mark.parametrize(("format", "value"), VALUES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("durability", ["replicated", "memory"])
def test_a_value_is_read_where_the_log_holds_it(
    shared_bus: Path, topic: str, durability: str, format: Any, value: Any
) -> None:
    create_topic(shared_bus, topic, durability=durability)
    with bus.Producer(shared_bus) as producer:
        for size in (1, 5, 70):  # the records before must not matter
            producer.send(topic, b"x" * size, key=b"k" * size).get(20)
    sent(shared_bus, topic, format, [value, value])
    for record in records(shared_bus, topic, format, 5)[3:]:
        view = numpy.frombuffer(record.view(), numpy.uint8)
        assert address(view) % ALIGN == 0
        found = buffers(record.value)
        assert found
        for at, size in found:
            assert address(view) < at
            assert at % ALIGN == 0
            assert at + size <= address(view) + view.nbytes
            assert mapped_file(at).endswith(".seg")


def test_an_array_shares_the_memory_of_its_record_and_cannot_be_made_writable(
    shared_bus: Path, topic: str
) -> None:
    sent(shared_bus, topic, "numpy", [numpy.arange(1000)])
    (record,) = records(shared_bus, topic, "numpy", 1)
    array = record.value
    assert record.value is array
    assert numpy.shares_memory(array, numpy.frombuffer(record.view(), numpy.uint8))
    with pytest.raises(ValueError, match="assignment destination is read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
        array.flags.writeable = True


def test_reading_a_large_array_takes_no_memory(shared_bus: Path, topic: str) -> None:
    create_topic(shared_bus, topic, durability="memory", max_message_bytes=BIG + MIB)
    array = numpy.arange(BIG // 8)
    sent(shared_bus, topic, "numpy", [array])
    (record,) = records(shared_bus, topic, "numpy", 1)
    tracemalloc.start()
    try:
        made = record.value
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert made[-1] == BIG // 8 - 1
    numpy.testing.assert_array_equal(made[:: 1 << 16], array[:: 1 << 16])


@pytest.mark.parametrize(
    ("format", "wrap", "outcome"),
    [
        (Numpy(), lambda array: array, "sent"),
        (Numpy(), lambda array: array.reshape(1024, -1).T, "sent"),
        (Pickle(), lambda array: {"array": array}, "sent"),
        (Arrow(), lambda array: pyarrow.record_batch({"x": array}), "sent"),
        (Numpy(), lambda array: array.reshape(1024, -1)[:, 1:], "no room for a copy"),
    ],
    ids=["array", "columns first", "pickle", "arrow", "not contiguous"],
)
def test_a_large_array_is_copied_into_the_log_and_nowhere_else(
    shared_bus: Path, topic: str, fork: Fork, format: Any, wrap: Any, outcome: str
) -> None:
    """The sender may take a quarter of the array's memory for itself, shared memory apart."""
    create_topic(shared_bus, topic, durability="memory", max_message_bytes=BIG + MIB)
    value = wrap(numpy.arange(BIG // 8))

    def send(report: Report) -> None:
        with bus.Producer(shared_bus, value_serializer=format, acks=1) as producer:
            producer.send(topic, wrap(numpy.arange(8192)))  # all code and files are there
            allow_private_memory(BIG // 4)
            try:
                producer.send(topic, value)
            except MemoryError:
                report("no room for a copy")
            else:
                report("sent")

    assert fork(send).next() == outcome


def allow_private_memory(more: int) -> None:
    """From here on this process gets so many bytes of memory that it does not share."""
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData:")
    ]
    limit = int(line.split()[1]) * 1024 + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def test_a_value_of_another_format_is_named_with_its_place_and_reading_goes_on(
    shared_bus: Path, topic: str
) -> None:
    create_topic(shared_bus, topic, partitions=2)
    with bus.Producer(shared_bus) as producer:
        producer.send(topic, b"no array", key=b"no array either", partition=1).get(20)
        producer.send(topic, Numpy().serialize(numpy.arange(3)), partition=1).get(20)
    with bus.Consumer(
        topic,
        bootstrap_servers=shared_bus,
        key_deserializer="json",
        value_deserializer="numpy",
        auto_offset_reset="earliest",
    ) as consumer:
        first, second = next(consumer), next(consumer)
        for what, cause in (("value", "not written by Numpy"), ("key", "this is not JSON")):
            with pytest.raises(DeserializationError, match=cause) as caught:
                getattr(first, what)
            error = caught.value
            assert f"the {what} at offset 0 of partition 1 of topic {topic!r}" in str(error)
            assert (error.topic, error.partition, error.offset) == (topic, 1, 0)
            assert isinstance(error.__cause__, SerializationError)
        assert second.value.tolist() == [0, 1, 2]
        assert second.key is None


UNWRITABLE = [
    ("numpy", [1, 2]),
    ("arrow", {"x": [1]}),
    ("json", {1, 2}),
    ("msgpack", object()),
    (Pickle(), lambda: 1),
    (None, [1, 2]),
    (lambda value: value, 5),
    (lambda value: bus.Parts([b"good", value]), 5),
]


def test_what_cannot_be_serialized_raises_at_once_and_nothing_is_appended(
    shared_bus: Path, topic: str
) -> None:
    for format, value in UNWRITABLE:
        with bus.Producer(shared_bus, value_serializer=format) as producer:
            with pytest.raises(SerializationError):
                producer.send(topic, value)
            with pytest.raises(SerializationError):
                producer.send_many(topic, [value])
            (partition,) = producer._partitions.values()
            assert partition.log_end_offset == 0
            assert producer.records_sent == 0


def test_a_value_in_parts_that_is_too_large_is_refused(shared_bus: Path, topic: str) -> None:
    create_topic(shared_bus, topic, max_message_bytes=1000)
    with bus.Producer(shared_bus) as producer:
        with pytest.raises(bus.errors.MessageSizeTooLargeError, match="takes 1001 bytes"):
            producer.send(topic, bus.Parts([b"a", b"b" * 937]))
        assert producer.send(topic, bus.Parts([b"a", b"b" * 936])).get(20).offset == 0


def test_a_key_of_any_format_decides_the_partition_and_comes_back(
    shared_bus: Path, topic: str
) -> None:
    create_topic(shared_bus, topic, partitions=4)
    keys = [numpy.arange(number) for number in range(1, 9)]
    with bus.Producer(shared_bus, key_serializer="numpy", value_serializer="json") as producer:
        places = [producer.send(topic, n, key=key).get(20).partition for n, key in enumerate(keys)]
        producer.send_many(topic, list(range(8)), keys=keys).get(20)
        producer.flush(20)
    assert len(set(places)) > 1
    found: dict[int, list[tuple[int, Any]]] = {}
    with bus.Consumer(
        topic,
        bootstrap_servers=shared_bus,
        key_deserializer="numpy",
        value_deserializer="json",
        auto_offset_reset="earliest",
    ) as consumer:
        for record in (next(consumer) for _ in range(16)):
            found.setdefault(record.value, []).append((record.partition, record.key))
    for number, seen in found.items():
        assert [partition for partition, _ in seen] == [places[number]] * 2
        assert all(key.tolist() == keys[number].tolist() for _, key in seen)
