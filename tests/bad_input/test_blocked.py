"""Waiting for somebody who does not come: bounded, the pid is named, and nothing is lost."""

import os
import re
import signal
import time
from pathlib import Path

import bus
from bus.errors import BackpressureError
from tests.bad_input.test_full_disk import values
from tests.children import Fork, Report
from tests.handles.blocked import is_asleep
from tests.waiting import eventually

MIB = 1 << 20
CHUNK = bytes(64 << 10)
BLOCK_MS = 400


def kill(broker: bus.Broker) -> None:
    """kill -9, and its end."""
    os.kill(broker.pid, signal.SIGKILL)
    broker.stop()


def send_until_blocked(producer: bus.Producer, most: int = 200) -> tuple[int, str]:
    """How many records were taken, and the error that came in the end; checks the time it took."""
    for sent in range(most):
        started = time.monotonic()
        try:
            producer.send("t", CHUNK)
        except BackpressureError as error:
            assert BLOCK_MS <= (time.monotonic() - started) * 1e3 < BLOCK_MS + 600
            return sent, str(error)
    raise AssertionError(f"{most} records were taken without a broker")


def test_without_a_broker_a_log_that_must_roll_blocks_and_names_the_dead_brokers_pid(
    bus_dir: Path,
) -> None:
    broker = bus.Broker(bus_dir).start()
    with bus.Producer(bus_dir, max_block_ms=BLOCK_MS, autostart=False) as producer:
        producer.send("t", CHUNK).get(timeout=10)
        pid = broker.pid
        kill(broker)
        sent, text = send_until_blocked(producer)
        assert re.search(rf"t-0 waits for a new hot segment from the broker \(pid {pid}\)", text)
        assert f"bus serve {bus_dir}" in text
        with bus.Broker(bus_dir):
            # what was refused was not stored; what was taken before is all there
            assert producer.send("t", b"last").get(timeout=20).offset == 1 + sent
            producer.flush(timeout=20)
            read = values(bus_dir)
            assert [len(value) for value in read] == [len(CHUNK)] * (1 + sent) + [4]


def test_with_autostart_a_sender_starts_the_broker_that_it_needs(bus_dir: Path) -> None:
    broker = bus.Broker(bus_dir).start()
    with bus.Producer(bus_dir) as producer:
        producer.send("t", CHUNK).get(timeout=10)
        kill(broker)
        for _ in range(64):
            future = producer.send("t", CHUNK)
        assert future.get(timeout=20).offset == 64


def test_a_send_that_is_blocked_goes_on_when_the_broker_comes_back(
    bus_dir: Path, fork: Fork
) -> None:
    broker = bus.Broker(bus_dir).start()

    def send(report: Report) -> None:
        with bus.Producer(bus_dir, max_block_ms=30_000, autostart=False) as producer:
            producer.send("t", CHUNK).get(timeout=10)
            report("attached")
            for number in range(64):
                last = producer.send("t", CHUNK)
                report(number)
            report(last.get(timeout=20).offset)

    sender = fork(send)
    assert sender.next() == "attached"
    kill(broker)
    taken = -1
    eventually(lambda: is_asleep(sender.pid), what="the sender is blocked")
    with bus.Broker(bus_dir):
        while taken < 63:
            taken = sender.next()
        assert sender.next() == 64
        assert sender.wait() == 0


def test_a_slow_consumer_of_a_memory_topic_is_named_with_its_pid_and_loses_nothing(
    bus_dir: Path, fork: Fork
) -> None:
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        configs = {"durability": "memory", "hot.bytes": str(4 * MIB)}
        admin.create_topics([bus.NewTopic("t", topic_configs=configs)])

        def read_when_told(report: Report) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            with bus.Consumer(
                "t",
                bootstrap_servers=bus_dir,
                auto_offset_reset="earliest",
                client_id="snail",
                consumer_timeout_ms=2000,
            ) as consumer:
                consumer.poll()
                report("attached")
                signal.sigwait([signal.SIGUSR1])
                for record in consumer:
                    report([record.offset, len(record.value)])

        snail = fork(read_when_told)
        assert snail.next() == "attached"
        with bus.Producer(bus_dir, max_block_ms=BLOCK_MS) as producer:
            sent, text = send_until_blocked(producer)
            assert text == (
                f"t-0 is full: consumer pid {snail.pid} (snail) has not consumed its records"
            )
            snail.send(signal.SIGUSR1)
            producer.send("t", b"last")
            read = [snail.next() for _ in range(sent + 1)]
            expected = [[offset, len(CHUNK)] for offset in range(sent)] + [[sent, 4]]
            assert read == expected
            assert snail.wait() == 0
