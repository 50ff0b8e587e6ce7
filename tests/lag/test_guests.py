"""A guest's record waits in the gateway for the owner's consumers."""

import tempfile
from pathlib import Path

import bus
from bus.broker import Broker
from bus.guest import GuestClient
from bus.guest_producer import GuestProducer
from tests.children import Report, family
from tests.lag.rig import T0, VALUE, commit, limited_topic, reader, sender
from tests.security.users import ALICE, becoming, reachable_bus
from tests.waiting import eventually, never

#: loaded before the fork: the checkout may be closed to other users
GUEST_MODULES = (GuestClient, GuestProducer)


def test_a_guest_waits_for_the_consumers_of_the_owner():
    with (
        tempfile.TemporaryDirectory(prefix="bus-test-") as name,
        reachable_bus(Path(name)) as path,
        Broker(path),
        family() as fork,
    ):
        limited_topic(path, max_lag_records=5, acl_write=f"user:{ALICE}")
        eventually((path / "guests.sock").exists)

        def send(report: Report) -> None:
            with bus.Producer(path, acks=1) as producer:
                for _ in range(6):
                    report(producer.send("t", VALUE).get(timeout=30).offset)

        with reader(path) as consumer, sender(path) as producer:
            child = fork(becoming(ALICE, send))
            assert [child.next() for _ in range(5)] == list(range(5))
            never(lambda: consumer.highwater(T0) > 5, 0.3)
            commit(consumer, 1)
            assert child.next() == 5
            assert child.wait() == 0
            assert producer.partitions_for("t") == {0}
