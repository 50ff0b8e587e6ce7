"""Arrays: what is sent is what is read, whatever the dtype and shape; anything else is refused."""

import struct
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bus.errors import SerializationError
from bus.serializers import Numpy
from bus.serializers.dtypes import dtype_of, text_of
from bus.serializers.numpy import MAGIC
from tests.serializers.rig import ALIGN, address, again, placed, stored

FORMAT = Numpy()
#: endianness of all kinds, and lists of fields of them
DTYPES = st.one_of(
    arrays.scalar_dtypes(),
    arrays.nested_dtypes(arrays.scalar_dtypes(), max_leaves=4),
    arrays.array_dtypes(arrays.scalar_dtypes()),
)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def plain(dtype: Any) -> Any:
    """An array's own dtype: one of an array in each element is taken apart by numpy."""
    return numpy.zeros((), dtype).dtype


@st.composite
def any_array(draw: st.DrawFn) -> Any:
    """Bytes of any value under any dtype and shape, in any order of memory, or with gaps."""
    dtype = plain(draw(DTYPES))
    shape = draw(SHAPES)
    count = int(numpy.prod(shape, dtype=int)) * dtype.itemsize
    seed = draw(st.integers(0, 1 << 32))
    data = numpy.random.default_rng(seed).bytes(count)
    if dtype.kind == "U":  # numpy checks code points when it compares
        data = bytes(count)
    array = numpy.ndarray(shape, dtype, bytearray(data))
    layout = draw(st.sampled_from(["C", "F", "reversed", "every second"]))
    if layout == "F":
        return numpy.asfortranarray(array)
    if layout == "reversed" and array.ndim:
        return array[::-1]
    if layout == "every second" and array.ndim:
        return array[..., ::2]
    return array


@settings(max_examples=40)
@given(any_array())
def test_an_array_comes_back_as_it_was_sent(array: Any) -> None:
    made = again(FORMAT, array)
    assert (made.dtype, made.shape) == (array.dtype, array.shape)
    assert made.tobytes() == array.tobytes()
    assert made.flags.contiguous or made.flags.fnc
    assert not made.flags.writeable
    assert made.nbytes == 0 or address(made) % ALIGN == 0


@pytest.mark.parametrize(
    "array",
    [
        numpy.array(7.5),
        numpy.zeros((3, 0, 2), ">i2"),
        numpy.array(["2026-01-01", "NaT"], "datetime64[D]"),
        numpy.array([1, 2], "timedelta64[25us]"),
        numpy.array(["text", "ü"]),
        numpy.array([b"a", b"bc"]),
        numpy.zeros(3, "V0"),
        numpy.zeros(2, numpy.dtype([("a", "i1"), ("b", ">f8")], align=True)),
        numpy.zeros(2, {"names": ["x", "y"], "formats": ["i4", "i2"], "offsets": [0, 2]}),
        numpy.array([1 + 2j], numpy.clongdouble),
        numpy.asfortranarray(numpy.arange(24).reshape(2, 3, 4)),
        numpy.arange(24).reshape(4, 6)[1:3, ::-2],
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_every_kind_of_array_keeps_its_dtype_and_elements(array: Any) -> None:
    made = again(FORMAT, array)
    assert made.dtype == array.dtype
    assert made.flags.fnc == array.flags.fnc
    numpy.testing.assert_array_equal(made, array)


def test_an_array_on_disk_is_an_array(tmp_path: Any) -> None:
    array = numpy.memmap(tmp_path / "file", numpy.int16, "w+", shape=(3, 4))
    array[:] = 5
    made = again(FORMAT, array)
    assert type(made) is numpy.ndarray
    assert (made == 5).all()


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        [1, 2],
        numpy.float64(1.0),
        numpy.ma.masked_array([1, 2], [True, False]),
        numpy.rec.array([(1, 2)], dtype=[("a", int), ("b", int)]),
        numpy.array([object()]),
        numpy.array(["text"], numpy.dtypes.StringDType()),
        numpy.zeros(1, [("a", object)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_more_or_less_than_an_array_of_plain_elements_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError):
        FORMAT.serialize(value)


def test_to_write_to_an_array_one_takes_a_copy() -> None:
    made = again(FORMAT, numpy.arange(3))
    with pytest.raises(ValueError, match="assignment destination is read-only"):
        made[0] = 1
    copy = made.copy()
    copy[0] = 1
    assert copy[0] == 1


# ------------------------------------------------------------------------------ hostile bytes

GOOD = bytes(stored(FORMAT.serialize(numpy.arange(12, dtype="<i4").reshape(3, 4))))


def test_a_value_that_is_cut_or_longer_than_its_shape_is_refused() -> None:
    for data in [GOOD[:cut] for cut in range(len(GOOD))] + [GOOD + b"\0"]:
        with pytest.raises(SerializationError):
            FORMAT.deserialize(placed(data))


@settings(max_examples=100)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_whatever_is_written_over_a_value_nothing_outside_is_read(at: int, noise: bytes) -> None:
    data = placed((GOOD[:at] + noise + GOOD[at + len(noise) :])[: len(GOOD)])
    try:
        made = FORMAT.deserialize(data)
    except SerializationError:
        return
    begin = numpy.frombuffer(data, numpy.uint8).ctypes.data
    assert begin <= address(made)
    assert address(made) + made.nbytes <= begin + len(data)
    assert not made.dtype.hasobject


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_nonsense_behind_the_magic_is_refused(noise: bytes) -> None:
    with pytest.raises(SerializationError):
        FORMAT.deserialize(placed(MAGIC + b"\x01" + noise))


@pytest.mark.parametrize(
    "shape", [(1 << 63, 2), (1 << 62, 4), ((1 << 64) - 1,), (1 << 40, 1 << 40)]
)
def test_a_shape_whose_size_overflows_is_refused(shape: tuple[int, ...]) -> None:
    for text in (b'"<i4"', b'"|V0"', b'"|S0"'):
        head = struct.pack("<4sBBBxQ", MAGIC, 1, 0, len(shape), len(text))
        value = (head + struct.pack(f"<{len(shape)}Q", *shape) + text).ljust(128, b"\0")
        with pytest.raises(SerializationError):
            FORMAT.deserialize(placed(value[:64]))


@pytest.mark.parametrize(
    "text",
    [
        '"O"',
        '"|O8"',
        '"object"',
        '"i4,O"',
        '"f8, f8"',
        '"<i3"',
        '"<M8[parsec]"',
        '"<M8"]',
        "[" * 1000,
        "[" * 20 + '"<i4"' + ",[1]]" * 20,
        '["<i4",[-1]]',
        '["<i4",[2147483648]]',
        '["<i4",[65536,65536]]',
        '["<i4",1]',
        '["|S2147483647",[2]]',
        "1",
        "null",
        "{}",
        '{"names":["a"],"formats":["|O8"],"offsets":[0],"itemsize":8}',
        '{"names":["a"],"formats":["<i8"],"offsets":[1],"itemsize":8}',
        '{"names":["a"],"formats":["<i8"],"offsets":[-8],"itemsize":8}',
        '{"names":[1],"formats":["<i8"],"offsets":[0],"itemsize":8}',
        '{"names":["a","a"],"formats":["<i8","<i8"],"offsets":[0,8],"itemsize":16}',
        '{"names":["a"],"formats":["<i8"],"offsets":[true],"itemsize":9}',
        '{"names":5,"formats":["<i8"],"offsets":[0],"itemsize":8}',
        '{"names":["a"],"formats":["<i8"],"offsets":[0]}',
    ],
)
def test_a_dtype_that_no_serializer_writes_is_refused(text: str) -> None:
    with pytest.raises(SerializationError, match="no dtype is described by"):
        dtype_of(text.encode())


@settings(max_examples=40)
@given(DTYPES)
def test_a_dtype_as_text_is_the_dtype_again(dtype: Any) -> None:
    assert dtype_of(text_of(plain(dtype))) == plain(dtype)
