"""A share group holds producers up by its low end: all below it is done."""

import threading
import time
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


def test_producers_do_not_wait_long_for_a_member_that_works(bus_dir: Path, broker: Broker):
    count = 300
    limited_topic(bus_dir, max_lag_records=10)
    options = {"bootstrap_servers": bus_dir, "group_id": "g"}
    with bus.ShareConsumer("t", **options) as consumer, sender(bus_dir, 60_000) as producer:

        def send() -> None:
            for _ in range(count):
                producer.send("t", b"")

        sending = threading.Thread(target=send)
        sending.start()
        began_s, done = time.monotonic(), 0
        while done < count:
            for records in consumer.poll(timeout_ms=1000).values():
                consumer.ack(*records)
                done += len(records)
        sending.join()
        # 30 commits: each one every 10 ms, and not when a member looks after its group in any case
        assert time.monotonic() - began_s < 20.0
