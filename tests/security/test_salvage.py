"""A control page that was written over is made anew around the hot segments beside it.

The records of acks=1 that no replica had copied are there, too: the segments verify.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import bus
from bus.control import ControlClient
from bus.directory import BusDirectory
from tests.broker.rig import status
from tests.children import Fork, Report
from tests.handles.blocked import replica_pid
from tests.waiting import eventually

RECORDS = 200


def value(number: int) -> bytes:
    return f"record {number} ".encode() * (1 + number % 7)


def hot_file(path: Path, suffix: str) -> list[Path]:
    return sorted(Path(status(path)["hot_dir"]).glob(f"*{suffix}"))


def write_over(file: Path, size: int = 4096, at: int = 0) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(os.urandom(size))


@contextmanager
def records_that_only_ram_has(path: Path, producer: bus.Producer) -> Iterator[None]:
    """Half of the records are durable when the block begins; for the others there is no replica."""
    for number in range(RECORDS // 2):
        producer.send("t", value(number))
    producer.flush(timeout=10)
    pid = replica_pid(path)
    os.kill(pid, signal.SIGSTOP)
    for number in range(RECORDS // 2, RECORDS):
        producer.send("t", value(number))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it is ended with its hot log anyway
            os.kill(pid, signal.SIGKILL)


def read_all(path: Path, topic: str = "t") -> list[bytes]:
    with bus.Consumer(
        topic, bootstrap_servers=path, auto_offset_reset="earliest", consumer_timeout_ms=1500
    ) as consumer:
        return [bytes(record.value) for record in consumer]


def moved(path: Path, from_hot_id: int) -> bool:
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
        return runtime is not None and runtime.hot_id != from_hot_id


def hot_id(path: Path) -> int:
    with BusDirectory.open(path) as directory:
        runtime = directory.read_runtime()
        assert runtime is not None
        return runtime.hot_id


@pytest.mark.parametrize("suffix", ["-0.ctl", "bus.ctl"])
def test_records_that_only_ram_has_outlive_the_page_that_led_to_them(
    bus_dir: Path, broker: bus.Broker, suffix: str
) -> None:
    with bus.Producer(bus_dir) as producer:
        with records_that_only_ram_has(bus_dir, producer):
            before = hot_id(bus_dir)
            write_over(*hot_file(bus_dir, suffix))
            eventually(lambda: moved(bus_dir, before), 20.0, "the bus moved")
        late = producer.send("t", value(RECORDS))
        assert late.get(timeout=10).offset >= RECORDS
    assert read_all(bus_dir) == [value(number) for number in range(RECORDS + 1)]
    counters = status(bus_dir)["counters"]
    assert counters["damage_found"] >= 1
    assert counters["client_evicted"] == 0, "nobody is proven to have done it"


def test_a_broker_that_finds_a_spoiled_page_at_its_start_saves_the_segments(
    bus_dir: Path,
) -> None:
    with bus.Producer(bus_dir) as producer:
        with records_that_only_ram_has(bus_dir, producer):
            page = hot_file(bus_dir, "-0.ctl")
            with BusDirectory.open(bus_dir) as directory, bus_client(directory) as client:
                pid = client.call("status")["broker"]["pid"]
            os.kill(pid, signal.SIGKILL)
            write_over(*page)
            producer.partitions_for("another")  # needs a broker
        assert producer.send("t", value(RECORDS)).get(timeout=10).offset >= RECORDS
    assert read_all(bus_dir) == [value(number) for number in range(RECORDS + 1)]


@contextmanager
def bus_client(directory: BusDirectory) -> Iterator[ControlClient]:
    client = ControlClient(directory, timeout_s=10)
    try:
        yield client
    finally:
        client.close()


def test_a_segment_that_is_spoiled_as_well_is_a_gap_and_the_others_are_saved(
    bus_dir: Path, broker: bus.Broker
) -> None:
    configs = {"hot.bytes": str(16 << 20), "segment.bytes": str(1 << 20), "durability": "memory"}
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("q", topic_configs=configs)])
    values = [bytes([number]) * (100 << 10) for number in range(40)]
    with bus.Producer(bus_dir) as producer:
        for one in values:
            producer.send("q", one)
        before = hot_id(bus_dir)
        segments = [file for file in hot_file(bus_dir, ".seg") if base_offset(file)]
        write_over(min(segments, key=base_offset))  # the header of the second one
        write_over(*hot_file(bus_dir, "-0.ctl"))
        eventually(lambda: moved(bus_dir, before), 20.0, "the bus moved")
        producer.send("q", b"after")
    found = read_all(bus_dir, "q")
    lost = [one for one in values if one not in found]
    assert found == [one for one in values if one not in lost] + [b"after"]
    assert 0 < len(lost) < 15


def base_offset(file: Path) -> int:
    from bus.native.core import LAYOUT

    data = file.read_bytes()[: LAYOUT["sizeof.bus_segment"]]
    at = LAYOUT["bus_segment.base_offset"]
    return int.from_bytes(data[at : at + 8], "little")


@pytest.mark.parametrize("group", [None, "g"])
def test_a_consumer_goes_on_where_it_was(bus_dir: Path, fork: Fork, group: str | None) -> None:
    def read(report: Report) -> None:
        consumer = bus.Consumer(
            "t", bootstrap_servers=bus_dir, group_id=group, auto_offset_reset="earliest"
        )
        with consumer:
            for record in consumer:
                report(record.value.decode())

    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send("t", b"1").get(timeout=10)
        child = fork(read)
        assert child.next() == "1"
        producer.send("t", b"2").get(timeout=10)
        assert child.next() == "2"
        before = hot_id(bus_dir)
        write_over(*hot_file(bus_dir, "bus.ctl"), size=64)
        eventually(lambda: moved(bus_dir, before), 20.0, "the bus moved")
        producer.send("t", b"3").get(timeout=10)
        assert child.next() == "3"
        child.kill()
