"""After a reboot the bus is rebuilt from its durable segments: nothing acknowledged is lost."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.directory import BusDirectory
from bus.durable import DATA_START
from bus.errors import RecordsLostError
from tests.broker.rig import (
    create_topic,
    durable_files,
    is_alive,
    kill,
    kill_broker,
    replica,
    status,
)
from tests.buses import end_bus
from tests.waiting import eventually


def state(path: Path, partition: int = 0) -> dict[str, object]:
    return dict(json.loads((path / "topics" / "t" / str(partition) / "state.json").read_text()))


def reboot(path: Path, broker: Broker) -> None:
    """Everything dies at once and /dev/shm is empty afterwards."""
    hot = status(path)["hot_dir"]
    pids = [row["pid"] for row in status(path)["replicas"]]
    kill_broker(broker)
    for pid in pids:
        kill(pid)
    shutil.rmtree(hot)
    broker.stop()


def fill(path: Path, count: int, size: int = 100) -> None:
    with bus.Producer(path, autostart=False) as producer:
        for _ in range(count):
            future = producer.send("t", b"x" * size, partition=0)
        future.get(timeout=30)


def test_acknowledged_records_survive_a_reboot_and_offsets_never_repeat(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    fill(bus_dir, 1000)
    limit = state(bus_dir)["offset_limit"]
    reboot(bus_dir, broker)
    with Broker(bus_dir):
        assert replica(bus_dir)["high_watermark"] == limit
        assert durable_files(bus_dir) == ["00000000000000000000.log"]
        with bus.Producer(bus_dir, autostart=False) as producer:
            assert producer.send("t", b"after").get(timeout=10).offset == limit
        with bus.Consumer(
            bootstrap_servers=bus_dir, auto_offset_reset="earliest", autostart=False
        ) as consumer:
            partition = bus.TopicPartition("t", 0)
            consumer.assign([partition])
            consumer.seek_to_beginning()
            offsets = []
            while len(offsets) < 1001:
                records = consumer.poll(timeout_ms=5000)
                assert records, f"no more after {len(offsets)} records"
                offsets += [record.offset for record in records[partition]]
        assert offsets == [*range(1000), limit]


def test_reboot_after_reboot(bus_dir: Path) -> None:
    ends = []
    for round_ in range(3):
        broker = Broker(bus_dir).start()
        if round_ == 0:
            create_topic(bus_dir)
        replica(bus_dir)
        fill(bus_dir, 10)
        ends.append(replica(bus_dir)["high_watermark"])
        reboot(bus_dir, broker)
    assert len(durable_files(bus_dir)) == 3
    assert ends == sorted(set(ends))


def test_a_reboot_without_new_records_leaves_no_empty_file(bus_dir: Path) -> None:
    for round_ in range(3):
        broker = Broker(bus_dir).start()
        if round_ == 0:
            create_topic(bus_dir)
            fill(bus_dir, 10)
        replica(bus_dir)
        reboot(bus_dir, broker)
    assert durable_files(bus_dir) == ["00000000000000000000.log"]


def test_a_torn_tail_is_cut_where_it_stops_to_verify(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    fill(bus_dir, 100)
    reboot(bus_dir, broker)
    path = bus_dir / "topics" / "t" / "0" / "00000000000000000000.log"
    frame = (48 + 100 + 7) // 8 * 8
    with path.open("r+b") as file:  # half of the frame that was being written
        file.seek(DATA_START + 100 * frame)
        file.write(b"\x30\x01\x00\x00garbage")
    with Broker(bus_dir):
        fill(bus_dir, 1)
        assert len(durable_files(bus_dir)) == 2


def test_after_a_clean_stop_offsets_go_on_without_a_gap(bus_dir: Path) -> None:
    with Broker(bus_dir):
        create_topic(bus_dir)
        fill(bus_dir, 10)
    assert state(bus_dir)["clean_end"] == {"offset": 10, "number": 1}
    with Broker(bus_dir):
        assert state(bus_dir)["clean_end"] is None
        fill(bus_dir, 1)
        assert replica(bus_dir)["log_end_offset"] == 11


def test_a_memory_topic_is_empty_after_a_stop_and_its_offsets_go_on(bus_dir: Path) -> None:
    with Broker(bus_dir):
        create_topic(bus_dir, durability="memory")
        fill(bus_dir, 10)
    with Broker(bus_dir), bus.Producer(bus_dir, autostart=False) as producer:
        assert producer.send("t", b"x").get(timeout=5).offset == 10


def test_a_hot_directory_of_another_boot_is_not_believed(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    fill(bus_dir, 10)
    pid = replica(bus_dir)["pid"]
    kill_broker(broker)
    kill(pid)
    broker.stop()
    with BusDirectory.open(bus_dir) as directory:
        runtime = directory.read_runtime()
        assert runtime is not None
        directory.write_runtime(replace(runtime, boot_id="another boot"))
    with Broker(bus_dir):
        counters = status(bus_dir)["counters"]
        assert (counters["partitions_adopted"], counters["partitions_recovered"]) == (0, 1)


def test_a_record_damaged_before_it_was_durable_fails_its_future_and_the_partition_goes_on(
    tmp_path: Path,
) -> None:
    bus_dir = tmp_path / "bus"
    with Broker(bus_dir), bus.Producer(bus_dir) as producer:
        create_topic(bus_dir)
        pid = replica(bus_dir)["pid"]
        fill(bus_dir, 5)
        os.kill(pid, signal.SIGSTOP)  # it must find the damage, not be faster than it
        hot = Path(status(bus_dir)["hot_dir"])
        future = producer.send("t", b"y" * 1000)
        behind = producer.send("t", b"z" * 1000)
        with next(hot.glob("*-0.*.seg")).open("r+b") as file:
            data = file.read()
            file.seek(data.index(b"yyyy"))
            file.write(b"z")
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(RecordsLostError, match=r"records 5 to 5 .* are lost"):
            future.get(timeout=10)
        assert not future.succeeded()
        assert behind.get(timeout=10).offset == 6
        with pytest.raises(RecordsLostError):
            producer.flush()
        assert producer.send("t", b"next").get(timeout=10).offset == 7
        with bus.Consumer(bootstrap_servers=bus_dir, auto_offset_reset="earliest") as consumer:
            tp = bus.TopicPartition("t", 0)
            consumer.assign([tp])
            assert [r.offset for r in consumer.poll(timeout_ms=5000)[tp]] == [0, 1, 2, 3, 4]
            with pytest.raises(RecordsLostError) as gap:
                consumer.poll(timeout_ms=5000)
            assert (gap.value.offset, gap.value.next_offset) == (5, 6)
            consumer.seek(tp, gap.value.next_offset)
            assert [r.offset for r in consumer.poll(timeout_ms=5000)[tp]] == [6, 7]
    assert not end_bus(bus_dir)


def test_ten_segments_of_log_are_opened_by_their_tail_alone(bus_dir: Path) -> None:
    with Broker(bus_dir):
        create_topic(bus_dir, segment_bytes=1 << 20, hot_bytes=4 << 20)
        fill(bus_dir, 10_000, size=1000)
    files = durable_files(bus_dir)
    assert len(files) > 9
    log = bus_dir / "topics" / "t" / "0"
    kept = {name: (log / name).read_bytes() for name in files[:-1]}
    for name in kept:  # whoever reads one of them now fails
        with (log / name).open("r+b") as file:
            file.seek(DATA_START)
            file.write(bytes(4096))
    with Broker(bus_dir):
        assert replica(bus_dir)["high_watermark"] == 10_000
        for name, data in kept.items():
            (log / name).write_bytes(data)


def test_a_stop_that_the_disk_did_not_follow_keeps_the_hot_log(bus_dir: Path) -> None:
    config = bus.BrokerConfig(stop_timeout_s=0.2)
    broker = Broker(bus_dir, config=config).start()
    create_topic(bus_dir)
    pid = replica(bus_dir)["pid"]
    os.kill(pid, signal.SIGSTOP)  # a disk that hangs
    producer = bus.Producer(bus_dir, acks=1, autostart=False)
    for _ in range(10):
        producer.send("t", b"x")
    broker.stop()
    producer.close()
    with Broker(bus_dir):
        eventually(lambda: replica(bus_dir)["high_watermark"] == 10, what="all ten durable")
        assert status(bus_dir)["counters"]["partitions_adopted"] == 1


def test_a_used_up_offset_limit_is_raised_on_disk_before_records_get_it(bus_dir: Path) -> None:
    with Broker(bus_dir):
        create_topic(bus_dir)
    path = bus_dir / "topics" / "t" / "0" / "state.json"
    with BusDirectory.open(bus_dir) as directory:
        relative = str(path.relative_to(bus_dir))
        before = directory.read_truth(relative)
        end = {"clean_end": {"offset": 20_000_000, "number": 1}, "log_start_offset": 20_000_000}
        directory.write_truth(relative, {**(before or {}), **end})
    with Broker(bus_dir), bus.Producer(bus_dir, autostart=False) as producer:
        assert producer.send("t", b"x").get(timeout=10).offset == 20_000_000
        assert state(bus_dir)["offset_limit"] == 3 << 24


def test_a_replica_whose_hot_log_was_removed_is_ended_before_the_files_are_touched(
    bus_dir: Path,
) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    producer = bus.Producer(bus_dir, autostart=False)  # keeps the replica from ending alone
    producer.send("t", b"x").get(timeout=10)
    pid = replica(bus_dir)["pid"]
    hot = status(bus_dir)["hot_dir"]
    kill_broker(broker)
    shutil.rmtree(hot)
    with Broker(bus_dir):
        assert not is_alive(pid)
        assert replica(bus_dir)["pid"] != pid
    producer.close()
    broker.stop()
