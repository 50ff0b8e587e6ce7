"""Consumers that slept while the bus was stopped and started again."""

from pathlib import Path
from typing import Any

import pytest

import bus
from bus.errors import BrokerNotRunningError, UnknownTopicOrPartitionError
from tests.broker.rig import ask, create_topic
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


def test_a_file_that_a_stop_has_removed_is_not_called_missing(bus_dir: Path) -> None:
    with bus.Broker(bus_dir):
        create_topic(bus_dir)
        send(bus_dir, 3)
        late = reader(bus_dir)
        late.assign([T0])
        cursor = late._fetcher.reader(T0)
    with pytest.raises(BrokerNotRunningError, match="the bus was stopped"):
        cursor.take(1)
    late.close()


def test_a_file_that_went_with_its_topic_is_not_called_missing(bus_dir: Path) -> None:
    with bus.Broker(bus_dir), reader(bus_dir) as late:
        create_topic(bus_dir)
        send(bus_dir, 3)
        late.assign([T0])
        cursor = late._fetcher.reader(T0)
        ask(bus_dir, "delete_topics", names=["t"])
        with pytest.raises(UnknownTopicOrPartitionError, match="was deleted"):
            cursor.take(1)
