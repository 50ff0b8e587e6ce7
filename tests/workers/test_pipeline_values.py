"""What stages may send each other without saying how, and what they may not."""

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import Parts
from bus.errors import SerializationError
from workers.pipeline.coordinates import (
    Coordinates,
    Place,
    child_order,
    coordinates_of,
    root_of,
    root_order,
)
from workers.pipeline.values import Values

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def there_and_back(value: object) -> object:
    made = Values().serialize(value)
    data = made.join() if isinstance(made, Parts) else made
    return Values().deserialize(memoryview(data).toreadonly())


@given(JSON)
def test_what_json_has_and_bytes_in_it_come_as_they_were(value: object) -> None:
    assert there_and_back(value) == value


@pytest.mark.parametrize("dtype", ["u1", "i8", "<f4", ">f8", "c16", "?", "M8[ns]"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (0, 2)])
def test_arrays_in_a_value_come_as_they_were_and_read_only(
    dtype: str, shape: tuple[int, ...]
) -> None:
    array = numpy.zeros(shape, dtype)
    found = there_and_back({"a": [array, "b"], "n": numpy.int64(3)})
    assert isinstance(found, dict)
    (back, text), number = found["a"], found["n"]
    assert (text, number) == ("b", 3)
    assert (back.dtype, back.shape, back.flags.writeable) == (array.dtype, shape, False)
    assert (back == array).all()
    assert back.ctypes.data % back.itemsize == 0


def test_an_array_and_a_batch_by_themselves_are_in_place() -> None:
    array = numpy.arange(12).reshape(3, 4)[:, ::2]
    back = there_and_back(array)
    assert isinstance(back, numpy.ndarray)
    assert (back == array).all()
    batch = pyarrow.record_batch({"x": [1, 2, 3]})
    assert there_and_back(batch) == batch


@pytest.mark.parametrize("value", [object(), {1, 2}, [numpy.array([object()])], 1j])
def test_what_cannot_be_sent_is_said_with_a_way_out(value: object) -> None:
    with pytest.raises(SerializationError, match=r"bus\.serializers\.Pickle\(\)"):
        there_and_back(value)


@pytest.mark.parametrize("data", [b"", b"hello", b"WPV1\1\0\0\0\xff\0\0\0\0\0\0\0"])
def test_what_no_stage_has_written_is_told_as_such(data: bytes) -> None:
    with pytest.raises(SerializationError):
        Values().deserialize(memoryview(data))


def test_coordinates_come_back_and_those_of_others_are_none() -> None:
    made = Coordinates("resize", Place("p.load", 3, 77), 2)
    assert coordinates_of([("x", b"1"), ("pipeline.from", made.to_bytes())]) == made
    for other in ([], [("pipeline.from", b"a b c")], [("pipeline.from", b"a b c d e")]):
        assert coordinates_of(other) is None


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=4), min_size=2))
def test_the_order_of_outputs_is_that_of_their_numbers_all_the_way(paths: list[list[int]]) -> None:
    def order(path: list[int]) -> bytes:
        made = root_order(path[0])
        for n in path[1:]:
            made = child_order(made, n)
        return made

    assert sorted(paths) == sorted(paths, key=order)
    assert [root_of(order(path)) for path in paths] == [path[0] for path in paths]
