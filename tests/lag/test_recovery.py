"""The limit after a stop, after a reboot, and over the offsets that a recovery skips."""

from pathlib import Path

import bus
from bus.broker import Broker
from tests.faults.test_reboot import reboot
from tests.lag.rig import T0, commit, fill, limited_topic, reader, sender


def test_the_limit_counts_on_after_a_stop(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir, max_lag_records=10, durability="replicated")
    with reader(bus_dir) as consumer, sender(bus_dir) as producer:
        assert fill(producer) == 10
        commit(consumer, 4)
    broker.stop()
    with Broker(bus_dir), sender(bus_dir) as producer:
        assert fill(producer) == 4


def test_offsets_that_a_reboot_skipped_are_no_lag(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir, max_lag_records=10, max_lag_bytes=1 << 20, durability="replicated")
    with reader(bus_dir) as consumer, bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b""] * 8).get(timeout=20)
        commit(consumer, 5)
    reboot(bus_dir)
    with Broker(bus_dir), sender(bus_dir) as producer:
        assert fill(producer) == 7  # 5 to 7 are there still
        with reader(bus_dir) as consumer:
            end = consumer.highwater(T0)
            assert end > 1 << 20
            commit(consumer, end - 2)
            assert fill(producer) == 8
