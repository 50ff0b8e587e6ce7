"""`bus check` finds every break of a stopped bus's segments, and names file and position."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.check import Damage, check_directory
from bus.errors import DirectoryError, UnsupportedVersionError
from tests.segments import (
    BUS_ID,
    DATA_START,
    FRAME_FIELDS,
    HEADER_FIELDS,
    INDEX_AT,
    INDEX_RANGE,
    Segment,
    end_frame,
    filled,
    frame,
    write_bus,
    write_json,
    write_segments,
    write_state,
    write_truth,
)

FILE = "topics/t/0/00000000000000000000.log"


def check_one(root: Path, segment: Segment, *, clean: int | None = 3) -> list[Damage]:
    """Damages of a bus with this one segment, stopped cleanly at offset `clean`."""
    partition = write_bus(root)
    write_segments(partition, segment)
    write_state(root, None if clean is None else (clean, segment.number))
    return check_directory(root)


def test_a_healthy_log_has_no_damage(tmp_path: Path) -> None:
    first, second = filled(3), filled(2, number=2, base=3)
    first.seal()
    partition = write_bus(tmp_path)
    write_segments(partition, first, second)
    write_state(tmp_path, (5, 2))
    assert check_directory(tmp_path) == []


def test_a_log_of_many_ranges_has_no_damage(tmp_path: Path) -> None:
    segment = Segment.begin()
    while segment.position < 5 * INDEX_RANGE + DATA_START:
        segment.append(value=b"v" * 500, timestamp=1_000_000 - segment.position)
    assert check_one(tmp_path, segment, clean=segment.next_offset) == []


@pytest.mark.parametrize("field", sorted(set(HEADER_FIELDS) - {"created_ns", "seed"}))
def test_a_changed_header_field_is_found(tmp_path: Path, field: str) -> None:
    segment = filled(3)
    segment.seal()
    at, code = HEADER_FIELDS[field]
    segment.set(field, struct.unpack_from(code, segment.data, at)[0] + 1)
    damages = check_one(tmp_path, segment)
    assert any(damage.file.endswith(".log") for damage in damages), damages


@pytest.mark.parametrize("field", ["created_ns", "seed", "number", "base_offset"])
def test_a_flipped_bit_under_the_header_checksum_is_found(tmp_path: Path, field: str) -> None:
    segment = filled(3)
    segment.data[HEADER_FIELDS[field][0]] ^= 0x10
    partition = write_bus(tmp_path)
    (partition / Path(FILE).name).write_bytes(segment.data)
    damages = check_directory(tmp_path)
    assert [damage.position for damage in damages] == [HEADER_FIELDS["header_crc"][0]]


@pytest.mark.parametrize("field", ["bus_id", "topic_id", "partition", "data_start", "bytes"])
def test_a_signed_header_that_lies_is_found(tmp_path: Path, field: str) -> None:
    segment = filled(3)
    segment.set(field, 77)
    segment.sign()
    damages = check_one(tmp_path, segment)
    assert (FILE, HEADER_FIELDS[field][0]) in [(one.file, one.position) for one in damages]


@pytest.mark.parametrize("field", sorted(FRAME_FIELDS))
def test_a_changed_frame_field_is_found(tmp_path: Path, field: str) -> None:
    segment = filled(1)
    second = segment.append(value=b"second")
    segment.append(value=b"third")
    at, code = FRAME_FIELDS[field]
    value = struct.unpack_from(code, segment.data, second + at)[0]
    struct.pack_into(code, segment.data, second + at, value ^ 8)
    damages = check_one(tmp_path, segment)
    assert damages[0].file == FILE
    assert damages[0].position == second
    assert "offset 1" in damages[0].what


def test_a_frame_with_a_wrong_offset_is_found(tmp_path: Path) -> None:
    segment = filled(1)
    position = segment.position
    segment._write(frame(position, 2, value=b"skips one"))
    damages = check_one(tmp_path, segment, clean=3)
    assert damages == [Damage(FILE, position, "frame has offset 2, expected 1")]


def test_a_durable_value_without_checksum_is_found(tmp_path: Path) -> None:
    segment = filled(2)
    position = segment.position
    unprotected = frame(position, 2, value=b"", attributes=0x0400)
    segment.data[position : position + len(unprotected)] = unprotected
    segment.position, segment.next_offset = position + len(unprotected), 3
    what = "the value has no checksum, in a replicated topic"
    assert check_one(tmp_path, segment) == [Damage(FILE, position, what)]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ((DATA_START + 8, 0, 0), "no frame starts it"),
        ((DATA_START, 1, -(2**63)), "indexed offset"),
        ((DATA_START, 0, 5), "indexed max_timestamp"),
        ((3 * INDEX_RANGE, 0, 0), "not one of its own range"),
    ],
)
def test_a_wrong_index_entry_is_found(
    tmp_path: Path, entry: tuple[int, int, int], what: str
) -> None:
    segment = filled(3)
    slot = INDEX_AT + 16 * (DATA_START // INDEX_RANGE)
    struct.pack_into("<IIq", segment.data, slot, *entry)
    damages = check_one(tmp_path, segment)
    assert [(one.file, one.position) for one in damages] == [(FILE, slot)]
    assert what in damages[0].what


def test_an_index_entry_behind_the_end_frame_is_found(tmp_path: Path) -> None:
    segment = filled(3)
    segment.seal()
    struct.pack_into("<IIq", segment.data, INDEX_AT + 16 * 100, 100 * INDEX_RANGE, 9, 0)
    damages = check_one(tmp_path, segment)
    assert [one.position for one in damages] == [INDEX_AT + 16 * 100]


def test_missing_index_entries_are_no_damage(tmp_path: Path) -> None:
    segment = filled(3)
    segment.data[INDEX_AT:DATA_START] = bytes(DATA_START - INDEX_AT)
    assert check_one(tmp_path, segment) == []


@pytest.mark.parametrize("field", ["end_offset", "end_position", "max_timestamp"])
def test_a_wrong_seal_is_found(tmp_path: Path, field: str) -> None:
    segment = filled(3)
    segment.seal()
    segment.set(field, 12345)
    damages = check_one(tmp_path, segment)
    assert [one.position for one in damages] == [HEADER_FIELDS[field][0]]


def test_a_torn_tail_after_a_crash_is_no_damage(tmp_path: Path) -> None:
    segment = filled(3)
    segment.data[segment.position : segment.position + 20] = b"half of a frame header"[:20]
    assert check_one(tmp_path, segment, clean=None) == []


def test_a_torn_frame_below_the_clean_end_is_damage(tmp_path: Path) -> None:
    segment = filled(2)
    damages = check_one(tmp_path, segment, clean=3)
    assert damages[0].position == segment.position
    assert "clean_end.offset" in damages[1].what


def test_a_segment_in_the_middle_must_be_sealed(tmp_path: Path) -> None:
    first, second = filled(3), filled(1, number=2, base=3)
    partition = write_bus(tmp_path)
    write_segments(partition, first, second)
    damages = check_directory(tmp_path)
    assert [(one.file, one.position) for one in damages] == [(FILE, first.position)]


@pytest.mark.parametrize(
    ("begin", "what"),
    [
        ({"number": 1, "base": 3}, "follows segment 1"),
        ({"number": 2, "base": 3, "previous_end": 2}, "the one before ends at 3"),
        ({"number": 2, "base": 4}, "the one before ends at 3"),
        ({"number": 3, "base": 3, "previous_end": 2}, "the one before ends at 3"),
    ],
)
def test_a_broken_chain_is_found(tmp_path: Path, begin: dict[str, int], what: str) -> None:
    first, second = filled(3), filled(1, **begin)
    first.seal()
    partition = write_bus(tmp_path)
    write_segments(partition, first, second)
    assert [what in damage.what for damage in check_directory(tmp_path)] == [True]


def test_a_known_gap_after_a_recovery_is_no_damage(tmp_path: Path) -> None:
    first, second = filled(3), filled(1, number=2, base=1000, previous_end=3)
    first.seal()
    partition = write_bus(tmp_path)
    write_segments(partition, first, second)
    assert check_directory(tmp_path) == []


def test_an_end_frame_that_names_another_segment_is_found(tmp_path: Path) -> None:
    first, second = filled(3), filled(1, number=2, base=3)
    first.seal()
    first.data[first.position : first.position + 48] = end_frame(first.position, 3, 7)
    partition = write_bus(tmp_path)
    write_segments(partition, first, second)
    damages = check_directory(tmp_path)
    assert [one.position for one in damages] == [first.position]
    assert "names segment 7" in damages[0].what


def test_a_file_under_another_name_is_found(tmp_path: Path) -> None:
    partition = write_bus(tmp_path)
    (partition / f"{5:020d}.log").write_bytes(filled(3).data)
    damages = check_directory(tmp_path)
    assert ["the file is named" in damage.what for damage in damages] == [True]


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    partition = write_bus(tmp_path)
    path = partition / Path(FILE).name
    path.write_bytes(filled(3).data[: 1 << 19])
    assert ["file size" in damage.what for damage in check_directory(tmp_path)] == [True]
    path.write_bytes(b"")
    assert [damage.position for damage in check_directory(tmp_path)] == [0]


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({"log_start_offset": 0, "offset_limit": 2}, "offset_limit 2 is below the log end 3"),
        ({"log_start_offset": 100, "offset_limit": 99}, "beyond the log end"),
        ({"log_start_offset": -1, "offset_limit": 99}, "log_start_offset is -1"),
        ({"log_start_offset": 0}, "offset_limit is None"),
        ({"log_start_offset": 0, "offset_limit": 99, "clean_end": 7}, "clean_end is 7"),
        ({"log_start_offset": 0, "offset_limit": 99, "clean_end": {"offset": 3}}, "number is None"),
    ],
)
def test_a_wrong_state_is_found(tmp_path: Path, state: dict[str, object], what: str) -> None:
    partition = write_bus(tmp_path)
    write_segments(partition, filled(3))
    write_truth(tmp_path, "topics/t/0/state.json", state)
    damages = check_directory(tmp_path)
    assert [damage.file for damage in damages] == ["topics/t/0/state.json"]
    assert what in damages[0].what


def test_a_clean_end_that_is_not_the_end_is_found(tmp_path: Path) -> None:
    damages = check_one(tmp_path, filled(3), clean=2)
    assert ["clean_end.offset is 2" in damage.what for damage in damages] == [True]


def test_a_missing_oldest_segment_is_found(tmp_path: Path) -> None:
    partition = write_bus(tmp_path)
    write_segments(partition, filled(1, number=2, base=3))
    damages = check_directory(tmp_path)
    assert ["the oldest segment follows offset 3" in one.what for one in damages] == [True]


def test_a_missing_segment_in_the_middle_is_found(tmp_path: Path) -> None:
    partition = write_bus(tmp_path)
    segments = [filled(3), filled(3, number=2, base=3), filled(3, number=3, base=6)]
    for segment in segments:
        segment.seal()
    write_segments(partition, segments[0], segments[2])
    damages = check_directory(tmp_path)
    assert ["previous_end 6, the one before ends at 3" in one.what for one in damages] == [True]


@pytest.mark.parametrize(("start", "is_damage"), [(5, True), (6, False), (8, False)])
def test_of_segments_below_the_log_start_any_may_be_there(
    tmp_path: Path, start: int, is_damage: bool
) -> None:
    partition = write_bus(tmp_path)
    segments = [filled(3), filled(3, number=2, base=3), filled(3, number=3, base=6)]
    for segment in segments:
        segment.seal()
    write_segments(partition, segments[0], segments[2])  # a power loss brought the first one back
    write_state(tmp_path, (9, 3), start=start)
    assert bool(check_directory(tmp_path)) is is_damage


def _no_json(root: Path) -> None:
    (root / "topics" / "t" / "topic.json").write_text("{")


def _other_name(root: Path) -> None:
    topic = {"id": 1, "name": "u", "partitions": 1, "configs": {}}
    write_truth(root, "topics/t/topic.json", topic)


def _bad_config(root: Path) -> None:
    topic = {"id": 1, "name": "t", "partitions": 1, "configs": {"retention.ms": "soon"}}
    write_truth(root, "topics/t/topic.json", topic)


def _no_partitions(root: Path) -> None:
    write_truth(root, "topics/t/topic.json", {"id": 1, "name": "t", "partitions": 0})


@pytest.mark.parametrize("spoil", [_no_json, _other_name, _bad_config, _no_partitions])
def test_a_damaged_topic_is_found(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    write_bus(tmp_path)
    spoil(tmp_path)
    damages = check_directory(tmp_path)
    assert [damage.file for damage in damages] == ["topics/t/topic.json"]


def test_two_topics_with_one_id_are_found(tmp_path: Path) -> None:
    write_bus(tmp_path)
    other = tmp_path / "topics" / "u"
    other.mkdir(0o700)
    topic = {"id": 1, "name": "u", "partitions": 1, "configs": {}}
    write_truth(tmp_path, "topics/u/topic.json", topic)
    assert ["id 1 is the one of topic" in one.what for one in check_directory(tmp_path)] == [True]


def test_a_damaged_identity_is_damage_and_no_bus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError):
        check_directory(tmp_path)
    write_bus(tmp_path / "bus")
    (tmp_path / "bus" / "bus.json").write_text("nothing")
    assert [one.file.endswith("bus.json") for one in check_directory(tmp_path / "bus")] == [True]
    write_json(tmp_path / "bus" / "bus.json", {"format": 99, "bus_id": f"{BUS_ID:016x}"})
    with pytest.raises(UnsupportedVersionError):
        check_directory(tmp_path / "bus")


def test_progress_counts_the_bytes_of_all_segments(tmp_path: Path) -> None:
    partition = write_bus(tmp_path)
    first, second = filled(3), filled(2, number=2, base=3)
    first.seal()
    write_segments(partition, first, second)
    counts: list[int] = []
    check_directory(tmp_path, progress=counts.append)
    assert sum(counts) == 2 * (len(first.data) - DATA_START)
