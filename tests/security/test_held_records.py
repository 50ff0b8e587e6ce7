"""A record that a reader holds stays within its bounds, whatever is written over its segment."""

import random
import struct
from pathlib import Path

import numpy
import pytest

import bus
from bus.broker import Broker
from bus.errors import CorruptSegmentError
from bus.native.core import LAYOUT, Cursor
from tests.broker.hotlog import HotLog
from tests.broker.rig import create_topic, status

VALUE, KEY, HEADERS = b"v" * 700, b"the key of this record", [("name", b"header")]
#: Where in a frame its lengths and attributes stand, and how much to overwrite.
LENGTHS_AT, LENGTHS_BYTES = 24, 12


def hot_file(path: Path) -> Path:
    (found,) = Path(status(path)["hot_dir"]).glob("*.seg")
    return found


@pytest.mark.parametrize("durability", ["replicated", "memory"])
def test_lengths_that_change_under_a_held_record_are_not_believed(
    bus_dir: Path, broker: Broker, durability: str
):
    create_topic(bus_dir, durability=durability)
    with (
        bus.Producer(bus_dir, autostart=False) as producer,
        bus.Consumer(
            "t", bootstrap_servers=bus_dir, autostart=False, auto_offset_reset="earliest"
        ) as reader,
    ):
        producer.send("t", VALUE, key=KEY, headers=HEADERS).get(timeout=20)
        record = next(reader)
        file = hot_file(bus_dir)
        kept = file.read_bytes()
        frame_at = kept.index(KEY) - LAYOUT["sizeof.bus_frame"]
        for lengths in (b"\xff" * LENGTHS_BYTES, b"\x00" * LENGTHS_BYTES, odd_lengths()):
            with file.open("r+b") as scribbled:
                scribbled.seek(frame_at + LENGTHS_AT)
                scribbled.write(lengths)
            assert (record.value, record.key, record.headers) == (VALUE, KEY, HEADERS)
            assert bytes(record.view()) == VALUE
            assert numpy.frombuffer(record, numpy.uint8).size == len(VALUE)
            assert record.serialized_value_size == len(VALUE)
            assert record.serialized_key_size == len(KEY)
            assert repr(VALUE) in repr(record)
        with file.open("r+b") as healed:
            healed.write(kept)


def odd_lengths() -> bytes:
    return struct.pack("<3I", *(random.Random(1).getrandbits(32) for _ in range(3)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("search", ["by offset", "by time"])
def test_a_ring_that_names_a_segment_and_has_none_is_not_looked_at_for_ever(
    tmp_path: Path, search: str
):
    with HotLog(tmp_path) as hot:
        hot.append(b"record")
        cursor = Cursor(hot.attach(), "t", 0)
        with (hot.hot.path / "1-0.ctl").open("r+b") as scribbled:
            scribbled.seek(LAYOUT["bus_partition.ring"] + LAYOUT["bus_ring_slot.serial"])
            scribbled.write(bytes(8))
        with pytest.raises(CorruptSegmentError, match="contradicts itself"):
            cursor.take(1) if search == "by offset" else cursor.find_time(0)
