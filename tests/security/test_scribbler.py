"""A client that writes random bytes over all it can reach: it is found and ended, nothing is lost.

It maps bus.ctl, control pages and hot segments for writing, as every client does. The broker and
the replicas live on, what was acknowledged with acks="all" stays, and the bus moves to a new hot
directory, where the others go on by themselves.
"""

import signal
from pathlib import Path

import pytest

import bus
from bus.client import Client
from bus.errors import RecordsLostError
from bus.liveness import ROLE_ADMIN
from tests.children import Fork
from tests.security.scribbler import attach_and_scribble
from tests.waiting import eventually


def counters(path: Path) -> dict[str, int]:
    with Client.connect(path, role=ROLE_ADMIN, client_id="watch") as client:
        return dict(client.call("status")["counters"])


def read_all(path: Path) -> list[bytes]:
    """Every value. Random bytes may tell of records that never were: those count as lost."""
    values: list[bytes] = []
    with bus.Consumer(
        "t", bootstrap_servers=path, auto_offset_reset="earliest", consumer_timeout_ms=1000
    ) as consumer:
        while True:
            try:
                for record in consumer:
                    values.append(bytes(record.value))
                return values
            except RecordsLostError as lost:
                consumer.seek(bus.TopicPartition("t", 0), lost.next_offset)


@pytest.mark.parametrize("seed", range(3))
def test_a_scribbler_is_found_and_killed_and_nothing_acknowledged_is_lost(
    bus_dir: Path, broker: bus.Broker, fork: Fork, seed: int
) -> None:
    pid = broker.pid
    with bus.Producer(bus_dir) as producer:
        for number in range(50):
            producer.send("t", f"before {number}".encode()).get(timeout=10)
        child = fork(lambda report: attach_and_scribble(bus_dir, report, seed))
        assert child.next() == "attached"
        assert child.wait(30.0) == -signal.SIGKILL
        for number in range(50):
            producer.send("t", f"after {number}".encode()).get(timeout=10)
    eventually(lambda: counters(bus_dir)["client_evicted"] == 1, 10.0, "the eviction is counted")
    assert broker.pid == pid
    values = read_all(bus_dir)
    assert [value for value in values if value.startswith(b"before")] == [
        f"before {number}".encode() for number in range(50)
    ]
    assert [value for value in values if value.startswith(b"after")] == [
        f"after {number}".encode() for number in range(50)
    ]
