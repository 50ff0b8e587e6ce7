"""JSON and MessagePack: what is sent is what is read; anything else is refused, and said."""

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import SerializationError
from bus.serializers import Json, MessagePack
from tests.serializers.rig import again, placed, stored

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
OBJECTS = st.recursive(
    LEAVES | st.integers(-(1 << 63), (1 << 64) - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40)
@given(OBJECTS)
@pytest.mark.parametrize("format", [Json(), MessagePack()], ids=["json", "msgpack"])
def test_an_object_comes_back_as_it_was_sent(format: Any, value: Any) -> None:
    assert again(format, value) == value


@settings(max_examples=40)
@given(OBJECTS)
def test_others_read_it_too(value: Any) -> None:
    assert json.loads(bytes(stored(Json().serialize(value)))) == value
    assert msgpack.unpackb(stored(MessagePack().serialize(value))) == value


def test_msgpack_keeps_bytes_and_keys_that_are_no_text() -> None:
    assert again(MessagePack(), {1: b"\xff", b"k": [True]}) == {1: b"\xff", b"k": [True]}


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        b"bytes",
        float("nan"),
        float("inf"),
        "\ud800",
        {(1, 2): 3},
        circular(),
        deep(),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_json_has_no_word_for_is_refused(value: Any) -> None:
    with pytest.raises(
        SerializationError, match=f"{type(value).__name__} cannot be written as JSON"
    ):
        Json().serialize(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 << 64, "\ud800", circular(), deep()])
def test_what_msgpack_has_no_word_for_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="cannot be written as MessagePack"):
        MessagePack().serialize(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"1 2", b"[" * 100_000, b"\x00\x31", b"nul"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="this is not JSON"):
        Json().deserialize(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xa2\xff\xff",
        b"\x81\x90\x01",
    ],
    ids=["nothing", "no type", "two", "deep", "a list of 4 billion", "no UTF-8", "a list as key"],
)
def test_what_is_not_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="this is not MessagePack"):
        MessagePack().deserialize(placed(data))


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_nonsense_is_refused_or_is_a_value(noise: bytes) -> None:
    for format in (Json(), MessagePack()):
        try:
            format.deserialize(placed(noise))
        except SerializationError as error:
            assert error.__cause__ is not None
