"""`bus stop` while programs are attached and waiting: a clear error for each, and no hang."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import BrokerNotRunningError
from tests.handles.blocked import (
    CHUNK,
    fill_queue,
    in_thread,
    make_queue,
    replica_pid,
    stopped,
)
from tests.waiting import eventually

SOON_S = 5.0


def stop(path: Path) -> None:
    """As from a shell."""
    command = [sys.executable, "-m", "bus", "stop", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("autostart", [True, False])
def test_a_stop_ends_every_call_that_waits_with_an_error_that_says_so(
    bus_dir: Path, autostart: bool
) -> None:
    bus.Producer(bus_dir).close()
    make_queue(bus_dir)
    options: dict[str, Any] = {"bootstrap_servers": bus_dir, "autostart": autostart}
    poller = bus.Consumer("t", **options)
    member = bus.Consumer("t", group_id="g", **options)
    iterator = bus.Consumer("t", **options)
    snail = bus.Consumer("q", auto_offset_reset="earliest", **options)
    snail.poll()
    producer = bus.Producer(bus_dir, autostart=autostart)
    calls = {
        "poll": in_thread(lambda: poller.poll(timeout_ms=60_000)).wait_asleep(),
        "poll of a group": in_thread(lambda: member.poll(timeout_ms=60_000)).wait_asleep(),
        "iteration": in_thread(lambda: next(iterator)).wait_asleep(),
        "blocked send": in_thread(lambda: fill_queue(producer)).wait_asleep(),
    }
    stop(bus_dir)
    for name, call in calls.items():
        error = call.result(SOON_S)
        assert isinstance(error, BrokerNotRunningError), (name, error)
        assert f"the bus in {bus_dir} was stopped" in str(error), name
    for handle in (poller, member, iterator, snail, producer):
        handle.close()


def test_a_stop_first_makes_durable_what_somebody_waits_for(bus_dir: Path) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send("t", b"x").get(timeout=10)
        with stopped(replica_pid(bus_dir)):
            future = producer.send("t", b"y")
            waiting = in_thread(lambda: future.get(timeout=20)).wait_asleep()
            stopping = in_thread(lambda: stop(bus_dir)).wait_asleep()
        assert waiting.result().offset == 1
        assert stopping.result(20) is None


def test_a_producer_goes_on_with_the_next_broker(bus_dir: Path) -> None:
    with bus.Producer(bus_dir) as producer:
        assert producer.send("t", b"x").get(timeout=10).offset == 0
        for number in (1, 2):
            stop(bus_dir)
            assert producer.send("t", b"x").get(timeout=10).offset == number
        future = producer.send("t", b"x")
        future.get(timeout=10)
        stop(bus_dir)
        assert future.get(timeout=10).offset == 3
        producer.flush(timeout=10)


def test_without_autostart_a_producer_goes_on_as_soon_as_somebody_starts_a_broker(
    bus_dir: Path,
) -> None:
    with bus.Broker(bus_dir):
        producer = bus.Producer(bus_dir, autostart=False)
        assert producer.send("t", b"x").get(timeout=10).offset == 0
    for _ in range(2):
        with pytest.raises(BrokerNotRunningError, match=f"bus serve {bus_dir}"):
            producer.send("t", b"refused")
        with pytest.raises(BrokerNotRunningError):
            producer.send_many("t", [b"refused"])
    with bus.Broker(bus_dir):
        assert producer.send("t", b"x").get(timeout=10).offset == 1
        producer.close()
    producer.close()


def test_a_consumer_of_a_stopped_bus_can_be_closed_and_its_group_goes_on_where_it_was(
    bus_dir: Path,
) -> None:
    with bus.Broker(bus_dir), bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b"%d" % number for number in range(10)])
        producer.flush()
        options: dict[str, Any] = {"group_id": "g", "auto_offset_reset": "earliest"}
        consumer = bus.Consumer("t", bootstrap_servers=bus_dir, **options)
        [records] = consumer.poll(timeout_ms=5000, max_records=4).values()
        consumer.commit()
    with pytest.raises(BrokerNotRunningError, match="make a new consumer"):
        consumer.poll()
    assert [bytes(record.value) for record in records] == [b"0", b"1", b"2", b"3"]
    consumer.close()
    with bus.Broker(bus_dir), bus.Consumer("t", bootstrap_servers=bus_dir, **options) as again:
        [records] = again.poll(timeout_ms=5000).values()
        assert [record.offset for record in records] == list(range(4, 10))


def test_a_stop_while_producers_send_at_full_speed_loses_no_acknowledged_record(
    bus_dir: Path,
) -> None:
    acknowledged = 0
    with bus.Broker(bus_dir):
        producer = bus.Producer(bus_dir, autostart=False)
        producer.send("t", CHUNK).get(timeout=10)

        def send() -> int:
            sent = 0
            try:
                while True:
                    producer.send("t", CHUNK).get(timeout=10)
                    sent += 1
            except BrokerNotRunningError:
                return sent

        sending = in_thread(send)
        eventually(lambda: producer.records_sent > 20, what="records flow")
        stop(bus_dir)
        acknowledged = 1 + sending.result(SOON_S)
    with bus.Broker(bus_dir):
        assert producer.send("t", b"last").get(timeout=10).offset >= acknowledged
        producer.close()


def test_a_producer_does_not_cling_to_a_broker_that_is_still_ending(bus_dir: Path) -> None:
    broker = bus.Broker(bus_dir).start()
    hasty = bus.Producer(bus_dir, autostart=False)
    patient = bus.Producer(bus_dir)
    for producer in (hasty, patient):
        producer.send("t", b"x").get(timeout=10)
    with stopped(replica_pid(bus_dir)):
        hasty.send("t", b"x")  # for this the broker waits before it ends
        ending = in_thread(broker.stop)
        eventually(lambda: not hasty.bootstrap_connected(), what="the stop is announced")
        with pytest.raises(BrokerNotRunningError, match="is being stopped"):
            hasty.send("t", b"refused")
        waiting = in_thread(lambda: patient.send("t", b"x").get(timeout=10).offset)
    assert ending.result(20) is None
    assert waiting.result() == 3
    assert hasty.send("t", b"x").get(timeout=10).offset == 4
    for producer in (hasty, patient):
        producer.close()
