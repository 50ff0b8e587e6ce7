"""Consumers that slept while the bus was stopped and started again."""

from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import BrokerNotRunningError
from tests.broker.rig import create_topic
from tests.consumer.rig import T0, reader

OFFSET = bus.OffsetAndMetadata


def member(path: Path, **options: Any) -> bus.Consumer:
    return reader(path, "t", group_id="g", enable_auto_commit=False, **options)


def send(path: Path, count: int) -> None:
    with bus.Producer(path) as producer:
        producer.send_many("t", [b"x"] * count)


def test_a_late_commit_of_a_stopped_bus_does_not_touch_the_offsets_of_the_next(
    bus_dir: Path,
) -> None:
    with bus.Broker(bus_dir):
        create_topic(bus_dir)
        send(bus_dir, 10)
        late = member(bus_dir)
        late.poll(5000)
        late.commit({T0: OFFSET(4)})
    with bus.Broker(bus_dir), member(bus_dir) as next_one:
        next_one.poll(5000)
        next_one.commit({T0: OFFSET(9)})
        with pytest.raises(BrokerNotRunningError, match="nothing was committed: make a new"):
            late.commit({T0: OFFSET(5)})
        assert next_one.committed(T0) == 9
        late.close()
        assert next_one.committed(T0) == 9


@pytest.mark.parametrize("auto_commit", [True, False])
def test_a_consumer_never_goes_on_over_a_restart_even_if_its_client_has_attached_anew(
    bus_dir: Path, auto_commit: bool
) -> None:
    with bus.Broker(bus_dir):
        create_topic(bus_dir)
        send(bus_dir, 3)
        late = reader(bus_dir, "t", group_id="g", enable_auto_commit=auto_commit)
        assert len(late.poll(5000)[T0]) == 3
    with bus.Broker(bus_dir), member(bus_dir) as next_one:
        assert len(next_one.poll(5000)[T0]) == 3
        send(bus_dir, 3)
        late._fetcher.client.reconnect()
        for _ in range(2):
            with pytest.raises(BrokerNotRunningError, match="make a new consumer"):
                late.poll(100)
        late.close()
        next_one.commit()
        assert [one.offset for one in next_one.poll(5000)[T0]] == [3, 4, 5]
