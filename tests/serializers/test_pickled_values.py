"""Pickles: objects come back, their arrays in place; what is no pickle of ours is refused."""

import pickle
import struct
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import SerializationError
from bus.serializers import Pickle
from bus.serializers.pickle import MAGIC
from tests.serializers.rig import ALIGN, address, again, placed, stored

FORMAT = Pickle()
SIZES = st.integers(0, 200)


@settings(max_examples=40)
@given(st.lists(SIZES, max_size=6), st.binary(max_size=100))
def test_an_object_and_its_arrays_come_back(sizes: list[int], data: bytes) -> None:
    sent = {"arrays": [numpy.arange(size, dtype=numpy.uint8) for size in sizes], "data": data}
    made = again(FORMAT, sent)
    assert made["data"] == data
    for size, array in zip(sizes, made["arrays"], strict=True):
        numpy.testing.assert_array_equal(array, numpy.arange(size))


def test_arrays_lie_in_the_value_aligned_and_read_only() -> None:
    arrays = [
        numpy.arange(5),
        numpy.asfortranarray(numpy.ones((3, 4))),
        numpy.zeros(3, [("a", "i1"), ("b", "f8")]),
    ]
    value = stored(FORMAT.serialize(arrays))
    begin = numpy.frombuffer(value, numpy.uint8).ctypes.data
    for sent, made in zip(arrays, FORMAT.deserialize(value), strict=True):
        assert begin < address(made) < begin + len(value)
        assert address(made) % ALIGN == 0
        assert not made.flags.writeable
        assert made.flags.fnc == sent.flags.fnc
        numpy.testing.assert_array_equal(made, sent)


@pytest.mark.parametrize(
    "value",
    [
        numpy.arange(10)[::2],
        numpy.array(["2026-01-01"], "datetime64[D]"),
        numpy.array([{"an": "object"}]),
        bytearray(b"bytes"),
        (1, "two", None, ...),
        ValueError("why"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_buffer_of_its_own_is_pickled_as_ever(value: Any) -> None:
    made = again(FORMAT, value)
    assert type(made) is type(value)
    assert repr(made) == repr(value)


@pytest.mark.parametrize("value", [lambda: 1, (one for one in [1]), memoryview(b"x")])
def test_what_cannot_be_pickled_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match=f"{type(value).__name__} cannot be pickled"):
        FORMAT.serialize(value)


def test_what_an_object_raises_while_it_is_pickled_or_loaded_is_the_cause() -> None:
    with pytest.raises(SerializationError, match="Stubborn cannot be pickled") as caught:
        FORMAT.serialize(Stubborn())
    assert isinstance(caught.value.__cause__, ArithmeticError)
    with pytest.raises(SerializationError, match="this pickle cannot be loaded") as caught:
        again(FORMAT, Unloadable())
    assert isinstance(caught.value.__cause__, LookupError)


class Stubborn:
    def __reduce__(self) -> Any:
        raise ArithmeticError("not this one")


def _refuse() -> None:
    raise LookupError("not here")


class Unloadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def test_a_value_that_no_pickle_serializer_wrote_is_never_unpickled() -> None:
    good = bytes(stored(FORMAT.serialize([1])))
    others = [good.replace(MAGIC, b"BUSQ"), good.replace(MAGIC + b"\x01", MAGIC + b"\x02")]
    for data in (b"", b"text", pickle.dumps([1]), MAGIC, *others):
        with pytest.raises(SerializationError, match="was not written by Pickle"):
            FORMAT.deserialize(placed(data))


def test_a_value_that_is_cut_or_too_long_is_refused_before_anything_is_loaded() -> None:
    good = bytes(stored(FORMAT.serialize({"array": numpy.arange(40)})))
    for data in [good[:cut] for cut in range(len(good))] + [good + b"\0"]:
        with pytest.raises(SerializationError, match=r"fit|end at|written by"):
            FORMAT.deserialize(placed(data))


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(0, []), (1 << 31, []), (1, [1 << 63]), (2, [5, (1 << 64) - 1]), (2, [(1 << 64) - 64, 64])],
)
def test_lengths_that_lead_outside_are_refused(count: int, lengths: list[int]) -> None:
    head = struct.pack("<4sB3xI4x", MAGIC, 1, count) + struct.pack(f"<{len(lengths)}Q", *lengths)
    for size in (64, 128, 256):
        with pytest.raises(SerializationError, match=r"fit|end at"):
            FORMAT.deserialize(placed(head.ljust(size, b"\0")))
