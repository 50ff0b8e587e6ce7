"""A file that is truncated while it is mapped kills nobody."""

import json
import os
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.errors import CorruptRecordError, CorruptSegmentError
from bus.native.core import Mapping
from tests.buses import end_bus

TP = bus.TopicPartition("t", 0)


def test_bytes_that_were_cut_off_read_as_zeros_and_the_mapping_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 20_000)
    with file.open("r+b") as opened:
        mapping = Mapping(opened.fileno(), 20_000)
        assert bytes(memoryview(mapping)[19_000:19_003]) == b"xxx"
        assert not mapping.is_damaged
        os.truncate(file, 4096)
        assert bytes(memoryview(mapping)[19_000:19_003]) == bytes(3)
        assert bytes(memoryview(mapping)[:3]) == b"xxx"
        assert mapping.is_damaged


def hot_segment(path: Path) -> Path:
    hot = Path(json.loads((path / "runtime.json").read_text())["hot_dir"])
    return next(hot.glob("*-0.*.seg"))


@pytest.mark.parametrize("size", [0, 12_288 + 500])
def test_a_hot_segment_that_is_cut_is_read_from_disk_and_appends_go_on(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "bus"
    with Broker(path), bus.Producer(path) as producer:
        for number in range(200):
            last = producer.send("t", b"%d" % number + bytes(100))
        last.get(timeout=20)
        with bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest") as consumer:
            consumer.assign([TP])
            [first] = consumer.poll(timeout_ms=5000, max_records=1)[TP]
            assert first.offset == 0
            os.truncate(hot_segment(path), size)
            assert producer.send("t", b"behind").get(timeout=20).offset == 200
            read: list[int] = []
            while not read or read[-1] < 200:
                for records in consumer.poll(timeout_ms=5000).values():
                    read += [record.offset for record in records]
            assert read == list(range(1, 201))
    assert not end_bus(path)


def test_a_control_page_that_is_cut_is_an_error_and_no_death(tmp_path: Path) -> None:
    path = tmp_path / "bus"
    unwatched = bus.BrokerConfig(page_check_ms=3_600_000)  # the bus would move
    with Broker(path, config=unwatched), bus.Producer(path) as producer:
        producer.send("t", b"x").get(timeout=20)
        control = hot_segment(path).parent.glob("*-0.ctl")
        os.truncate(next(control), 0)
        with pytest.raises(CorruptSegmentError, match="ctl was truncated while it was mapped"):
            producer.send("t", b"y")
    end_bus(path)


def test_a_durable_record_that_is_damaged_is_read_from_the_hot_log_or_missed_aloud(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bus"
    with Broker(path), bus.Producer(path) as producer:
        for number in range(10):
            last = producer.send("t", b"%d" % number * 100)
        last.get(timeout=20)
    [segment] = (path / "topics/t/0").glob("*.log")
    with segment.open("r+b") as file:
        at = file.read().index(b"4444")
        file.seek(at)
        file.write(b"x")
    with (
        Broker(path),
        bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest") as consumer,
    ):
        consumer.assign([TP])
        assert [r.offset for r in consumer.poll(timeout_ms=5000)[TP]] == [0, 1, 2, 3]
        with pytest.raises(CorruptRecordError) as damage:
            consumer.poll(timeout_ms=5000)
        assert (damage.value.offset, damage.value.next_offset) == (4, 5)
        assert damage.value.file == str(segment)
        consumer.seek(TP, damage.value.next_offset)
        assert [r.offset for r in consumer.poll(timeout_ms=5000)[TP]] == [5, 6, 7, 8, 9]
    end_bus(path)
