"""Arrow: batches and tables come back, in place; forged ones are refused."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import SerializationError
from bus.serializers import Arrow
from bus.serializers.arrow import BATCH, HEADER_BYTES, MAGIC
from tests.serializers.rig import again, placed, stored

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


def test_the_buffers_of_a_batch_lie_in_the_value() -> None:
    batch = pa.record_batch({"x": list(range(1000)), "s": ["text"] * 1000})
    value = stored(FORMAT.serialize(batch))
    begin = pa.py_buffer(value).address
    made = FORMAT.deserialize(value)
    found = [buffer for column in made.columns for buffer in column.buffers() if buffer]
    assert len(found) == 3
    for buffer in found:
        assert begin < buffer.address <= begin + len(value) - buffer.size
        assert not buffer.is_mutable


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
    end = len(GOOD) - 16  # the mark of the end and its padding may be missing
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
