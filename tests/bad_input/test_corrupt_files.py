"""Damaged or foreign files of a running bus: the cause is named, and nothing is stored."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from bus.errors import CorruptSegmentError, UnsupportedVersionError
from bus.native.core import LAYOUT

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
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
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
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
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
