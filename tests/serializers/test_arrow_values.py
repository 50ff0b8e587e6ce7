"""Arrow: batches and tables come back, in place; forged ones are refused."""

import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import SerializationError
from bus.serializers import Arrow
from bus.serializers.arrow import BATCH, HEADER_BYTES, MAGIC
from tests.serializers.rig import ALIGN, again, placed, stored

FORMAT = Arrow()
COLUMNS = {
    "integers": st.integers(-100, 100),
    "floats": st.floats(allow_nan=False),
    "texts": st.text(max_size=5),
    "bytes": st.binary(max_size=5),
    "flags": st.booleans(),
    "lists": st.lists(st.integers(0, 9), max_size=3),
}
TYPES = {
    "integers": pa.int16(),
    "floats": pa.float64(),
    "texts": pa.string(),
    "bytes": pa.large_binary(),
    "flags": pa.bool_(),
    "lists": pa.list_(pa.int32()),
}
SCHEMA = pa.schema(list(TYPES.items()), metadata={"who": "tests"})


@st.composite
def batches(draw: st.DrawFn) -> Any:
    rows = draw(st.integers(0, 20))
    columns = [
        pa.array(draw(st.lists(st.none() | one, min_size=rows, max_size=rows)), TYPES[name])
        for name, one in COLUMNS.items()
    ]
    batch = pa.record_batch(columns, schema=SCHEMA)
    begin = draw(st.integers(0, rows))
    return batch.slice(begin, draw(st.integers(0, rows - begin)))


@settings(max_examples=25)
@given(batches())
def test_a_batch_comes_back_as_it_was_sent(batch: Any) -> None:
    made = again(FORMAT, batch)
    assert made.equals(batch, check_metadata=True)


@settings(max_examples=12)
@given(st.lists(batches(), max_size=3))
def test_a_table_comes_back_in_its_batches(chunks: list[Any]) -> None:
    table = pa.Table.from_batches(chunks, SCHEMA)
    made = again(FORMAT, table)
    assert isinstance(made, pa.Table)
    assert made.equals(table, check_metadata=True)


def test_dictionaries_structs_and_extension_types_come_back() -> None:
    batch = pa.record_batch(
        {
            "words": pa.array(["a", "b", None, "a"]).dictionary_encode(),
            "pairs": pa.array([{"x": 1, "y": "é"}, None, {"x": None, "y": ""}, {"x": 2, "y": "z"}]),
            "nothing": pa.nulls(4),
        }
    )
    assert again(FORMAT, batch).equals(batch)
    assert again(FORMAT, pa.table(batch)).equals(pa.table(batch))


MIXED = pa.record_batch(
    {
        "x": [None, *range(1000)],
        "s": ["text"] * 1001,
        "l": [[1, 2, None], None, []] * 333 + [[]] * 2,
        "d": pa.array(["a", "b", None] * 333 + ["c"] * 2).dictionary_encode(),
        "v": pa.array(["a view of a longer text"] * 1001, pa.string_view()),
    }
)


@pytest.mark.parametrize(
    "value", [MIXED, pa.Table.from_batches([MIXED, MIXED.slice(3, 7)])], ids=type
)
def test_the_buffers_of_a_batch_lie_in_the_value_each_on_a_multiple_of_64(value: Any) -> None:
    data = stored(FORMAT.serialize(value))
    begin = pa.py_buffer(data).address
    made = FORMAT.deserialize(data)
    assert made.equals(value)
    batches = made.to_batches() if isinstance(made, pa.Table) else [made]
    arrays = [column for batch in batches for column in batch.columns]
    arrays += [batch.column("d").dictionary for batch in batches]
    found = [one for array in arrays for one in array.buffers() if one and one.size]
    assert len(found) >= 12
    for buffer in found:
        assert begin < buffer.address <= begin + len(data) - buffer.size
        assert buffer.address % ALIGN == 0
        assert not buffer.is_mutable


@settings(max_examples=25)
@given(st.lists(batches(), min_size=1, max_size=2))
def test_behind_its_header_a_value_is_a_stream_that_anybody_can_read(chunks: list[Any]) -> None:
    table = pa.Table.from_batches(chunks)
    value = bytes(stored(FORMAT.serialize(table)))
    with pa.ipc.open_stream(value[HEADER_BYTES:]) as stream:
        assert stream.read_all().equals(table)


@pytest.mark.parametrize(
    "value", [b"bytes", [1], {"x": [1]}, pa.array([1]), pa.schema([])], ids=str
)
def test_what_is_no_batch_and_no_table_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="must be a pyarrow RecordBatch or Table"):
        FORMAT.serialize(value)


def test_what_no_arrow_serializer_wrote_is_refused() -> None:
    for data in (b"", b"text", MAGIC, MAGIC.ljust(HEADER_BYTES, b"\0"), bytes(200)):
        with pytest.raises(SerializationError, match="was not written by Arrow"):
            FORMAT.deserialize(placed(data))


GOOD = bytes(stored(FORMAT.serialize(pa.record_batch({"s": ["one", "two", None], "x": [1, 2, 3]}))))


def test_a_value_that_is_cut_is_refused() -> None:
    texts = GOOD.index(b"onetwo")
    end = GOOD.index(struct.pack("<qq", 1, 2), texts) + 24  # the rest is zeros and the end's mark
    for cut in range(HEADER_BYTES, end, 4):
        with pytest.raises(SerializationError, match="no stream of Arrow batches"):
            FORMAT.deserialize(placed(GOOD[:cut]))


def test_forged_offsets_are_found_before_they_are_followed() -> None:
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 3, 6, 6))
    assert GOOD.count(offsets) == 1
    forged = placed(GOOD.replace(offsets, offsets[:4] + b"\xff\xff\xff\x7f" + offsets[8:]))
    with pytest.raises(SerializationError, match="no stream of Arrow batches"):
        FORMAT.deserialize(forged)
    assert Arrow(validate=False).deserialize(forged).num_rows == 3


@settings(max_examples=100)
@given(st.integers(HEADER_BYTES, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_whatever_is_written_over_a_batch_it_is_refused_or_can_be_read(
    at: int, noise: bytes
) -> None:
    data = (GOOD[:at] + noise + GOOD[at + len(noise) :])[: len(GOOD)]
    try:
        made = FORMAT.deserialize(placed(data))
    except SerializationError:
        return
    made.to_pylist()


def test_a_stream_without_a_batch_is_no_batch() -> None:
    empty = pa.Table.from_batches([], pa.schema([("x", pa.int8())]))
    value = bytearray(bytes(stored(FORMAT.serialize(empty))))
    assert FORMAT.deserialize(placed(bytes(value))).num_rows == 0
    value[4] = BATCH
    with pytest.raises(SerializationError, match="no stream of Arrow batches"):
        FORMAT.deserialize(placed(bytes(value)))
