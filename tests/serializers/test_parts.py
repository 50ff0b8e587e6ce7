"""bus.Parts: values that are gathered from several buffers on their way into the log."""

from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bus
from bus.errors import SerializationError
from tests.broker.rig import create_topic
from tests.serializers.rig import ALIGN, address, records

BUFFERS = st.lists(st.binary(max_size=150), max_size=6)


def joined(buffers: list[bytes], align: int) -> bytes:
    """What a value of these parts is, in Python."""
    value = b""
    for buffer in buffers:
        value += b"\0" * (-len(value) % align) + buffer
    return value


@settings(max_examples=100)
@given(BUFFERS, st.sampled_from([1, 2, 8, 32, 64]))
def test_parts_join_with_zeros_between_them(buffers: list[bytes], align: int) -> None:
    parts = bus.Parts(buffers, align=align)
    assert parts.join() == joined(buffers, align)
    assert parts.nbytes == len(joined(buffers, align))


@pytest.mark.parametrize("durability", ["replicated", "memory"])
def test_gathered_values_are_what_readers_find_whatever_stands_before_them(
    shared_bus: Path, topic: str, durability: str
) -> None:
    create_topic(shared_bus, topic, durability=durability)
    noise = numpy.random.default_rng(1)
    sizes = [0, 1, 63, 64, 65, 1000, 70_000, 300_000]
    buffers = [[noise.bytes(size) for size in noise.permutation(sizes)[:4]] for _ in range(40)]
    aligns = [1 << int(n) for n in noise.integers(0, 7, 40)]
    with bus.Producer(shared_bus) as producer:
        for number in range(20):
            parts = bus.Parts(buffers[number], align=aligns[number])
            producer.send(topic, parts, key=b"k" * number, headers=[("h", b"v" * number)])
        producer.send_many(
            topic, [bus.Parts(buffers[n], align=aligns[n]) for n in range(20, 40)], partition=0
        )
        producer.flush(20)
    for number, record in enumerate(records(shared_bus, topic, None, 40)):
        assert record.value == joined(buffers[number], aligns[number])
        assert address(numpy.frombuffer(record.view(), numpy.uint8)) % ALIGN == 0


def test_a_small_value_that_is_no_parts_begins_where_it_did(shared_bus: Path, topic: str) -> None:
    """The value of a record of one buffer is aligned from 1024 bytes on, as before."""
    with bus.Producer(shared_bus) as producer:
        for value in (b"a", b"b" * 9, bus.Parts([b"c"]), bus.Parts([]), b"d" * 9):
            producer.send(topic, value).get(20)
    found = records(shared_bus, topic, None, 5)
    assert [record.value for record in found] == [b"a", b"b" * 9, b"c", b"", b"d" * 9]
    first = numpy.frombuffer(found[0].view(), numpy.uint8)
    second = numpy.frombuffer(found[1].view(), numpy.uint8)
    assert address(second) - address(first) == 56
    assert address(numpy.frombuffer(found[2].view(), numpy.uint8)) % ALIGN == 0


def test_buffers_are_held_until_the_parts_go() -> None:
    buffer = bytearray(b"bytes")
    parts = bus.Parts([buffer])
    with pytest.raises(BufferError):
        buffer.append(1)
    buffer[0] = ord("B")
    assert parts.join() == b"Bytes"
    del parts
    buffer.append(1)


@pytest.mark.parametrize("part", ["text", 1, None, [b"a"], memoryview(b"abcd")[::2]])
def test_a_part_that_is_no_run_of_bytes_is_refused(part: object) -> None:
    buffer = bytearray(b"good")
    with pytest.raises(SerializationError, match="a part of a value"):
        bus.Parts([buffer, part])
    buffer.append(1)  # and what came before it is let go


@pytest.mark.parametrize("align", [0, 3, 128, 65])
def test_an_alignment_that_values_do_not_have_is_refused(align: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        bus.Parts([b"a"], align=align)


def test_parts_are_no_key(shared_bus: Path, topic: str) -> None:
    with (
        bus.Producer(shared_bus) as producer,
        pytest.raises(SerializationError, match="the key must be bytes-like"),
    ):
        producer.send(topic, b"value", key=bus.Parts([b"key"]))
