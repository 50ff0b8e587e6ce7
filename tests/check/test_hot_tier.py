"""`bus check` on a running bus: control files, rings, hot segments and their durable copies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.check import Damage, check_directory
from bus.native.core import LAYOUT
from tests.cli.runs import answer
from tests.segments import DATA_START

MEMORY = {"durability": "memory"}


@pytest.fixture
def hot(bus_dir: Path, broker: Broker) -> Path:
    """The hot directory of a bus with a hundred durable records in topic t (id 1)."""
    with bus.Producer(bus_dir) as producer:
        for number in range(100):
            producer.send("t", b"value %d" % number)
        producer.flush(20)
    return Path(answer("status", bus_dir)["hot_dir"])


@contextmanager
def changed(file: Path, at: int, mask: int = 1) -> Iterator[None]:
    """A bit of a file changed for a while, in place: others have it mapped."""
    with file.open("r+b", buffering=0) as opened:
        opened.seek(at)
        before = opened.read(1)
        opened.seek(at)
        opened.write(bytes([before[0] ^ mask]))
        try:
            yield
        finally:
            opened.seek(at)
            opened.write(before)


def damages_with(bus_dir: Path, file: Path, at: int, mask: int = 1) -> list[Damage]:
    assert check_directory(bus_dir) == []
    with changed(file, at, mask):
        found = check_directory(bus_dir)
    assert check_directory(bus_dir) == []
    return found


@pytest.mark.parametrize("field", ["magic", "version", "bytes", "bus_id", "hot_id"])
def test_a_changed_bus_table_is_found(bus_dir: Path, hot: Path, field: str) -> None:
    at = LAYOUT[f"bus_control.{field}"]
    (found,) = damages_with(bus_dir, hot / "bus.ctl", at, mask=64)
    assert (found.file, found.position) == (str(hot / "bus.ctl"), at)


@pytest.mark.parametrize("field", ["magic", "version", "bytes", "bus_id", "group_id"])
def test_a_changed_members_table_is_found(bus_dir: Path, hot: Path, field: str) -> None:
    with bus.Admin(bus_dir) as admin:
        admin.alter_group_offsets("g", {bus.TopicPartition("t", 0): 1})
    (file,) = hot.glob("group-*.ctl")
    at = LAYOUT[f"bus_members.{field}"]
    (found,) = damages_with(bus_dir, file, at)
    assert (found.file, found.position) == (str(file), at)


@pytest.mark.parametrize("field", ["magic", "version", "bytes", "bus_id", "topic_id", "partition"])
def test_a_changed_identity_is_found(bus_dir: Path, hot: Path, field: str) -> None:
    at = LAYOUT[f"bus_partition.{field}"]
    (found,) = damages_with(bus_dir, hot / "1-0.ctl", at)
    assert (found.file, found.position) == (str(hot / "1-0.ctl"), at)


@pytest.mark.parametrize(
    ("field", "byte", "what"),
    [
        ("high_watermark", 2, "high_watermark"),
        ("log_start_offset", 2, "log_start_offset"),
        ("offset_limit", 3, "offset_limit"),
        ("tail", 1, "neither end"),
        ("ring_numbers", 0, "the ring holds"),
    ],
)
def test_a_changed_bound_is_found(
    bus_dir: Path, hot: Path, field: str, byte: int, what: str
) -> None:
    at = LAYOUT[f"bus_partition.{field}"] + byte
    found = damages_with(bus_dir, hot / "1-0.ctl", at)
    assert what in " ".join(damage.what for damage in found)


def test_a_changed_hot_frame_is_found_in_both_ways(bus_dir: Path, hot: Path) -> None:
    (segment,) = hot.glob("1-0.*.seg")
    at = segment.read_bytes().index(b"value 50")
    found = damages_with(bus_dir, segment, at)
    assert str(segment) in {damage.file for damage in found}
    assert any("offset 50 is invalid" in damage.what for damage in found)


def test_a_changed_durable_frame_differs_from_the_hot_one(bus_dir: Path, hot: Path) -> None:
    log = bus_dir / "topics" / "t" / "0" / f"{0:020d}.log"
    at = log.read_bytes().index(b"value 50")
    found = damages_with(bus_dir, log, at)
    assert f"topics/t/0/{log.name}" in {damage.file for damage in found}
    assert any("offset 50 is invalid" in damage.what for damage in found)
    assert any("the high watermark is 100" in damage.what for damage in found)


def test_padding_that_differs_from_the_hot_copy_is_found(bus_dir: Path, hot: Path) -> None:
    log = bus_dir / "topics" / "t" / "0" / f"{0:020d}.log"
    at = log.read_bytes().index(b"value 5") + len(b"value 5")
    (found,) = damages_with(bus_dir, log, at)
    assert found.position == at
    assert "differs from the hot segment" in found.what


def test_a_memory_topic_is_checked_without_a_durable_log(bus_dir: Path, hot: Path) -> None:
    with bus.Admin(bus_dir) as admin, bus.Producer(bus_dir, acks=1) as producer:
        admin.create_topics([bus.NewTopic("m", 1, topic_configs=MEMORY)])
        producer.send("m", b"only here")
    (segment,) = hot.glob("2-0.*.seg")
    at = segment.read_bytes().index(b"only here")
    (found,) = damages_with(bus_dir, segment, at)
    assert (found.file, found.position) == (str(segment), DATA_START)


def test_a_ring_that_has_rolled_and_recycled_is_clean(bus_dir: Path, broker: Broker) -> None:
    small = {"segment.bytes": str(1 << 20), "hot.bytes": str(4 << 20)}
    with bus.Admin(bus_dir) as admin, bus.Producer(bus_dir) as producer:
        admin.create_topics([bus.NewTopic("t", 1, topic_configs=small)])
        for _ in range(200):
            producer.send("t", b"x" * 100_000)
        producer.flush(30)
        assert check_directory(bus_dir) == []
    assert answer("status", bus_dir)["counters"]["rolls"] > 4


def test_a_bus_that_is_written_to_is_clean_all_the_time(bus_dir: Path, broker: Broker) -> None:
    small = {"segment.bytes": str(1 << 20), "hot.bytes": str(4 << 20)}
    with bus.Admin(bus_dir) as admin, bus.Producer(bus_dir, acks=1) as producer:
        admin.create_topics([bus.NewTopic("t", 1, topic_configs=small)])
        for _ in range(12):
            for _ in range(400):
                producer.send("t", b"x" * 2_000)
            assert check_directory(bus_dir) == []


def test_large_values_of_memory_topics_have_no_checksum_and_are_no_damage(
    bus_dir: Path, broker: Broker
) -> None:
    with bus.Admin(bus_dir) as admin, bus.Producer(bus_dir) as producer:
        admin.create_topics([bus.NewTopic("m", 1, topic_configs=MEMORY)])
        producer.send("m", b"x" * LAYOUT["BUS_BARE_VALUE"], key=b"key")
        segment = next(Path(answer("status", bus_dir)["hot_dir"]).glob("*.seg"))
        value = DATA_START + LAYOUT["BUS_VALUE_ALIGN"]
        assert not damages_with(bus_dir, segment, value)
        assert damages_with(bus_dir, segment, DATA_START + LAYOUT["sizeof.bus_frame"])
