"""Damaged or foreign files of a running bus: the cause is named, and nothing is stored."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import CorruptRecordError, CorruptSegmentError, UnsupportedVersionError
from bus.native.core import LAYOUT
from tests.buses import end_bus

DAMAGED = [
    ("bus.ctl", "bus_control.magic", CorruptSegmentError, "no control file of a bus"),
    ("bus.ctl", "bus_control.version", UnsupportedVersionError, "layout version 7, .* uses"),
    ("bus.ctl", "bus_control.bus_id", CorruptSegmentError, "does not belong to the bus"),
    ("{id}-0.ctl", "bus_partition.magic", CorruptSegmentError, "no control page"),
    ("{id}-0.ctl", "bus_partition.version", UnsupportedVersionError, "layout version 7, .* uses"),
    ("{id}-0.ctl", "bus_partition.topic_id", CorruptSegmentError, "another partition"),
    ("{id}-0.ctl", "bus_partition.partition", CorruptSegmentError, "another partition"),
]


def hot_file(path: Path, name: str) -> Path:
    """A file of the hot directory; {id} stands for the id of topic "t"."""
    hot = Path(json.loads((path / "runtime.json").read_text())["hot_dir"])
    topic = json.loads((path / "topics/t/topic.json").read_text())
    return hot / name.format(id=topic["id"])


@contextmanager
def changed(file: Path, at: int, value: bytes) -> Iterator[None]:
    """Other bytes at that place, for a while."""
    with file.open("r+b", buffering=0) as opened:
        opened.seek(at)
        before = opened.read(len(value))
        opened.seek(at)
        opened.write(value)
        yield
        opened.seek(at)
        opened.write(before)


@pytest.mark.parametrize(("name", "field", "kind", "words"), DAMAGED)
def test_a_control_file_that_is_not_one_of_this_bus_is_refused_by_name(
    bus_dir: Path, name: str, field: str, kind: type[Exception], words: str
) -> None:
    tp = bus.TopicPartition("t", 0)
    unwatched = bus.BrokerConfig(page_check_ms=3_600_000)  # it would be mended meanwhile
    with bus.Broker(bus_dir, config=unwatched), bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        file = hot_file(bus_dir, name)
        with changed(file, LAYOUT[field], (7).to_bytes(4, "little")):
            with pytest.raises(kind, match=rf"{file}.*{words}"):
                bus.Consumer("t", bootstrap_servers=bus_dir)
            with pytest.raises(kind, match=rf"{file}.*{words}"), bus.Producer(bus_dir) as late:
                late.send("t", b"y")
        with bus.Consumer(bootstrap_servers=bus_dir) as consumer:
            assert consumer.end_offsets([tp]) == {tp: 1}


def test_a_control_page_that_was_cut_is_refused_by_name(bus_dir: Path) -> None:
    unwatched = bus.BrokerConfig(page_check_ms=3_600_000)  # it would be mended meanwhile
    with bus.Broker(bus_dir, config=unwatched), bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t")])
        file = hot_file(bus_dir, "{id}-0.ctl")
        whole = file.read_bytes()
        other = file.with_name("other.ctl.new")
        other.write_bytes(whole[:4096])
        other.chmod(0o600)
        aside = file.rename(file.with_name("aside.ctl.new"))
        other.rename(file)
        with (
            bus.Producer(bus_dir) as producer,
            pytest.raises(CorruptSegmentError, match=rf"{file}.* 4096 bytes"),
        ):
            producer.send("t", b"x")
        aside.rename(file)
        with bus.Producer(bus_dir) as producer:
            assert producer.send("t", b"x").get(timeout=10).offset == 0


def stop_with_a_record(path: Path) -> Path:
    """A stopped bus with one record in "t"; its durable segment."""
    with bus.Broker(path), bus.Producer(path) as producer:
        producer.send("t", b"x").get(timeout=10)
    [segment] = (path / "topics/t/0").glob("*.log")
    return segment


def test_a_segment_of_another_version_keeps_the_broker_from_starting_and_is_left_alone(
    bus_dir: Path,
) -> None:
    segment = stop_with_a_record(bus_dir)
    before = segment.read_bytes()
    with changed(segment, LAYOUT["bus_segment.version"], b"\x07"):
        for make in (lambda: bus.Broker(bus_dir).start(), lambda: bus.Producer(bus_dir)):
            with pytest.raises(UnsupportedVersionError, match=rf"{segment} has layout version 7"):
                make()
    assert segment.read_bytes() == before
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        assert producer.send("t", b"y").get(timeout=10).offset == 1


@pytest.mark.parametrize("field", ["magic", "header_crc", "base_offset"])
def test_records_behind_a_damaged_header_are_missed_aloud_and_not_skipped(
    tmp_path: Path, field: str
) -> None:
    path = tmp_path / "bus"
    segment = stop_with_a_record(path)
    with changed(segment, LAYOUT[f"bus_segment.{field}"], b"\xee"):
        with bus.Broker(path), bus.Producer(path) as producer:
            assert producer.send("t", b"y").get(timeout=10).offset == 1
            options: dict[str, Any] = {"auto_offset_reset": "earliest", "bootstrap_servers": path}
            with bus.Consumer("t", **options) as consumer:
                with pytest.raises(CorruptRecordError, match="offsets 0 to 0 are missing"):
                    consumer.poll(timeout_ms=5000)
                consumer.seek(bus.TopicPartition("t", 0), 1)
                [[record]] = consumer.poll(timeout_ms=5000).values()
                assert bytes(record.value) == b"y"
        aside = segment.with_suffix(".log.damaged")
        assert aside.exists()
        wrong = end_bus(path)
        assert wrong
        assert all("damage" in line for line in wrong), wrong


def test_the_log_before_and_after_a_damaged_header_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    values = [b"%d" % number + bytes(100_000) for number in range(30)]
    with bus.Broker(path), bus.Producer(path) as producer:
        for value in values:
            producer.send("t", value)
    segments = sorted((path / "topics/t/0").glob("*.log"))
    lost = int(segments[-1].stem)
    assert 0 < lost < len(values)
    with changed(segments[-1], LAYOUT["bus_segment.magic"], b"\xee"):
        for start in (len(values), len(values) + 1):
            with bus.Broker(path), bus.Producer(path) as producer:
                assert producer.send("t", b"new").get(timeout=10).offset == start
            read, errors = read_past_errors(path)
            assert read == values[:lost] + [b"new"] * (start + 1 - len(values))
            assert len(errors) == 1
            assert f"offsets {lost} to {len(values) - 1} are missing" in errors[0]


def read_past_errors(path: Path) -> tuple[list[bytes], list[str]]:
    """What can be read from the beginning to the end, and what was in the way."""
    tp = bus.TopicPartition("t", 0)
    read: list[bytes] = []
    errors: list[str] = []
    options: dict[str, Any] = {"auto_offset_reset": "earliest", "bootstrap_servers": path}
    with bus.Broker(path), bus.Consumer("t", **options) as consumer:
        end = consumer.end_offsets([tp])[tp]
        while consumer.position(tp) < end:
            try:
                for records in consumer.poll(timeout_ms=1000).values():
                    read += [bytes(record.value) for record in records]
            except CorruptRecordError as error:
                errors.append(str(error))
                consumer.seek(tp, 1 + int(re.findall(r"to (\d+) are missing", errors[-1])[0]))
    return read, errors
