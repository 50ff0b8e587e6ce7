"""Readers that see only what is durable, while the replica lags behind."""

import os
import signal
from pathlib import Path

import bus
from tests.broker.rig import create_topic, replica

VALUE = bytes(100_000)
#: Two segments of 1 MiB.
RECORDS = 16


def test_iteration_waits_in_the_middle_of_a_sealed_segment_until_the_rest_is_durable(
    bus_dir: Path, broker: bus.Broker
) -> None:
    create_topic(bus_dir, segment_bytes=1 << 20, hot_bytes=4 << 20)
    stopped = replica(bus_dir)["pid"]
    with (
        bus.Producer(bus_dir) as producer,
        bus.Consumer(
            "t",
            bootstrap_servers=bus_dir,
            auto_offset_reset="earliest",
            read_until="durable",
            consumer_timeout_ms=100,
        ) as consumer,
    ):
        for _ in range(3):
            producer.send("t", VALUE).get(timeout=10)
        os.kill(stopped, signal.SIGSTOP)
        try:
            for _ in range(RECORDS - 3):
                producer.send("t", VALUE)
            offsets = [record.offset for _ in range(3) for record in consumer]
            assert offsets == [0, 1, 2]  # and no error behind the high watermark
        finally:
            os.kill(stopped, signal.SIGCONT)
        producer.flush(timeout=20)
        assert [record.offset for record in consumer] == list(range(3, RECORDS))
