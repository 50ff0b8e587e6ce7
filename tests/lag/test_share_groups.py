"""A share group holds producers up by its low end: all below it is done."""

from pathlib import Path

import bus
from bus.broker import Broker
from tests.lag.rig import Blocked, fill, limited_topic, sender
from tests.waiting import eventually


def test_records_that_are_acknowledged_make_room(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir, max_lag_records=10)
    options = {"bootstrap_servers": bus_dir, "group_id": "g"}
    with bus.ShareConsumer("t", **options) as consumer, sender(bus_dir) as producer:
        consumer.poll(timeout_ms=0)
        assert fill(producer) == 10
        held = [one for batch in consumer.poll(timeout_ms=2000).values() for one in batch]
        assert len(held) == 10
        consumer.ack(*held[1:])
        consumer.poll(timeout_ms=300)
        assert fill(producer) == 0  # the first one is not done
        with sender(bus_dir, 60_000) as waiting_one:
            waiting = Blocked(waiting_one, 10)
            consumer.ack(held[0])
            eventually(lambda: consumer.poll(timeout_ms=100) or not waiting.is_alive())
            assert waiting.ends()
            assert waiting.error is None
