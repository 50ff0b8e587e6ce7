"""A broker starts once per directory, and a clean stop leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bus
from bus.broker import Broker
from bus.errors import (
    BrokerAlreadyRunningError,
    IllegalStateError,
    UnknownTopicOrPartitionError,
    UnsafeDirectoryError,
)
from tests.broker.rig import answers, ask, create_topic, is_alive, replica, status
from tests.buses import bus_processes, shared_objects
from tests.waiting import eventually


def bus_id(path: Path) -> str:
    return str(json.loads((path / "bus.json").read_text())["bus_id"])


def test_a_stopped_bus_leaves_no_process_no_semaphore_and_no_hot_directory(bus_dir: Path) -> None:
    with Broker(bus_dir) as broker:
        create_topic(bus_dir, partitions=2)
        with bus.Producer(bus_dir, autostart=False) as producer:
            producer.send("t", b"x", partition=1).get(timeout=10)
        pid = broker.pid
        assert shared_objects({bus_id(bus_dir)})
    assert not is_alive(pid)
    assert not bus_processes(bus_dir)
    assert shared_objects({bus_id(bus_dir)}) == []
    assert not (bus_dir / "broker.sock").exists()
    assert not (bus_dir / "runtime.json").exists()


def test_epochs_rise_with_every_start(bus_dir: Path) -> None:
    epochs = []
    for _ in range(3):
        with Broker(bus_dir) as broker:
            epochs.append(broker.epoch)
            assert status(bus_dir)["broker"]["epoch"] == broker.epoch
            assert status(bus_dir)["broker"]["pid"] == broker.pid
    assert epochs == [1, 2, 3]


def test_a_second_broker_is_refused_and_told_the_first_ones_pid(
    bus_dir: Path, broker: Broker
) -> None:
    with pytest.raises(BrokerAlreadyRunningError, match=f"pid {broker.pid}"):
        Broker(bus_dir).start()
    assert answers(bus_dir)


def test_a_stopped_process_still_holds_the_directory(bus_dir: Path, broker: Broker) -> None:
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerAlreadyRunningError, match=f"pid {broker.pid}"):
            Broker(bus_dir).start()
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def test_start_and_stop_may_be_repeated(bus_dir: Path) -> None:
    broker = Broker(bus_dir)
    with pytest.raises(IllegalStateError, match="not started"):
        _ = broker.pid
    assert broker.start() is broker
    pid = broker.pid
    broker.start()
    assert broker.pid == pid
    broker.stop()
    broker.stop()
    broker.start()
    assert broker.epoch == 2
    broker.stop()


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("bus").mkdir()
    tmp_path.joinpath("bus").chmod(0o777)
    with pytest.raises(UnsafeDirectoryError, match="writable by others"):
        Broker(tmp_path / "bus").start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_stop_it_cleanly(bus_dir: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-m", "bus.supervisor", str(bus_dir)])
    eventually(lambda: bus_dir.joinpath("bus.json").exists() and answers(bus_dir), what="a broker")
    create_topic(bus_dir)
    replica(bus_dir)
    process.send_signal(number)
    assert process.wait(20) == 0
    assert shared_objects({bus_id(bus_dir)}) == []


def test_a_request_stops_it_cleanly(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    create_topic(bus_dir)
    assert ask(bus_dir, "stop") == {}
    eventually(lambda: not is_alive(broker.pid), what="the end of the broker")
    assert shared_objects({bus_id(bus_dir)}) == []
    broker.stop()


def test_what_was_acknowledged_before_a_stop_is_there_after_it(bus_dir: Path) -> None:
    with Broker(bus_dir):
        create_topic(bus_dir)
        with bus.Producer(bus_dir, acks=1, autostart=False) as producer:
            for i in range(5000):
                future = producer.send("t", b"%d" % i)
        assert future.get(timeout=5).offset == 4999
    with Broker(bus_dir):
        row = replica(bus_dir)
        assert row["log_end_offset"] == row["high_watermark"] == 5000


def test_an_attached_client_is_told_when_the_bus_stops(bus_dir: Path) -> None:
    broker = Broker(bus_dir).start()
    producer = bus.Producer(bus_dir, autostart=False)
    producer.send("t", b"x").get(timeout=10)
    broker.stop()
    assert shared_objects({bus_id(bus_dir)}) == []
    producer.close()


def test_a_broker_without_its_owner_ends_when_nobody_is_attached(bus_dir: Path) -> None:
    program = (
        "import sys, os; from bus.broker import Broker; from bus.config import BrokerConfig;"
        f"b = Broker({str(bus_dir)!r}, config=BrokerConfig(linger_s=0.2)).start();"
        "print(b.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=30, check=True
    )
    pid = int(done.stdout)
    eventually(lambda: not is_alive(pid), what="the end of the broker")
    assert shared_objects({bus_id(bus_dir)}) == []


def test_topics_are_not_created_by_themselves_if_the_broker_says_so(bus_dir: Path) -> None:
    config = bus.BrokerConfig(auto_create_topics=False)
    with Broker(bus_dir, config=config):
        with pytest.raises(UnknownTopicOrPartitionError, match="bus topics create t"):
            ask(bus_dir, "topic", name="t", create=True)
        create_topic(bus_dir)
        assert ask(bus_dir, "topic", name="t")["topic"]["partitions"] == 1


def test_a_chosen_hot_directory_is_used_and_removed(bus_dir: Path, tmp_path: Path) -> None:
    with Broker(bus_dir, hot_dir=tmp_path / "elsewhere"):
        create_topic(bus_dir)
        hot = Path(status(bus_dir)["hot_dir"])
        assert hot.parent == tmp_path / "elsewhere"
        assert (hot / "bus.ctl").exists()
    assert not hot.exists()
