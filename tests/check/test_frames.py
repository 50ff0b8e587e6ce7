"""A frame is valid if and only if every part of the rule holds."""

import struct

import pytest

from bus.frames import InvalidFrameError, read_frame, walk
from tests.segments import (
    ALIGNED,
    DATA_START,
    FRAME_FIELDS,
    NULL_KEY,
    NULL_VALUE,
    SEED,
    Segment,
    end_frame,
    filled,
    frame,
)


def at_start(data: bytes) -> memoryview:
    return memoryview(bytes(DATA_START) + data)


def test_a_frame_says_where_its_parts_stand() -> None:
    data = at_start(frame(DATA_START, 7, key=b"key", headers=b"hh", value=b"value"))
    found = read_frame(data, DATA_START, len(data), SEED)
    assert (found.offset, found.size, found.position) == (7, 64, DATA_START)
    assert bytes(data[found.key_at : found.key_at + found.key_length]) == b"key"
    assert bytes(data[found.value_at : found.value_at + found.value_length]) == b"value"
    assert not found.null_key
    assert not found.null_value


def test_a_large_value_stands_on_its_boundary() -> None:
    value = b"x" * 5000
    data = at_start(frame(DATA_START, 0, key=b"k", value=value, attributes=ALIGNED))
    found = read_frame(data, DATA_START, len(data), SEED)
    assert found.value_at % 64 == 0
    assert bytes(data[found.value_at : found.value_at + found.value_length]) == value


def test_null_is_not_empty() -> None:
    data = at_start(frame(DATA_START, 0, attributes=NULL_KEY | NULL_VALUE))
    found = read_frame(data, DATA_START, len(data), SEED)
    assert (found.null_key, found.null_value) == (True, True)


@pytest.mark.parametrize("field", sorted(FRAME_FIELDS))
def test_a_frame_with_any_field_changed_is_not_valid(field: str) -> None:
    data = bytearray(at_start(frame(DATA_START, 7, key=b"key", value=b"value")))
    at, code = FRAME_FIELDS[field]
    value = struct.unpack_from(code, data, DATA_START + at)[0]
    struct.pack_into(code, data, DATA_START + at, value ^ 8)
    with pytest.raises(InvalidFrameError) as caught:
        read_frame(memoryview(data), DATA_START, len(data), SEED)
    assert caught.value.position == DATA_START


@pytest.mark.parametrize("at", [48, 50, 51, 56, 60])
def test_a_frame_with_any_covered_body_byte_changed_is_not_valid(at: int) -> None:
    data = bytearray(at_start(frame(DATA_START, 7, key=b"key", headers=b"h", value=b"value")))
    data[DATA_START + at] ^= 1
    with pytest.raises(InvalidFrameError, match="CRC32C"):
        read_frame(memoryview(data), DATA_START, len(data), SEED)


def test_a_frame_of_another_segment_is_not_valid() -> None:
    data = at_start(frame(DATA_START, 7, value=b"value"))
    with pytest.raises(InvalidFrameError, match="CRC32C"):
        read_frame(data, DATA_START, len(data), SEED + 1)


def test_a_frame_that_reaches_beyond_the_end_is_not_valid() -> None:
    data = at_start(frame(DATA_START, 7, value=b"value"))
    with pytest.raises(InvalidFrameError, match="beyond"):
        read_frame(data, DATA_START, len(data) - 8, SEED)
    with pytest.raises(InvalidFrameError, match="no room"):
        read_frame(data, DATA_START, DATA_START + 47, SEED)


def test_a_walk_ends_with_the_end_frame() -> None:
    segment = filled(3)
    segment.seal()
    frames = list(walk(memoryview(segment.data), DATA_START, len(segment.data), SEED))
    assert [one.offset for one in frames] == [0, 1, 2, 3]
    assert frames[-1].producer == segment.number + 1


def test_a_walk_stops_at_the_first_frame_that_is_not_valid() -> None:
    segment = Segment.begin()
    segment.append(value=b"a")
    seen = []
    with pytest.raises(InvalidFrameError) as caught:
        for one in walk(memoryview(segment.data), DATA_START, len(segment.data), SEED):
            seen.append(one.offset)
    assert seen == [0]
    assert caught.value.position == segment.position


def test_an_end_frame_carries_no_offset_of_its_own() -> None:
    data = at_start(end_frame(DATA_START, 9, 2))
    found = read_frame(data, DATA_START, len(data), SEED)
    assert not found.carries_offset
