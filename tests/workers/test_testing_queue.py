"""The queue of workers.testing does what a ShareConsumer does: random operations on both."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bus
from bus.errors import IllegalStateError
from tests.waiting import eventually
from workers.testing.clock import FakeClock
from workers.testing.queue import Queue
from workers.testing.record import Record

if TYPE_CHECKING:
    from bus.broker import Broker

TOPIC = "jobs"
CAUSES = ("failure", "timeout", "crash", "oom")


class Both:
    """The same records in a queue and in a share group; what one says, the other is to say."""

    def __init__(self, consumer: bus.ShareConsumer, count: int) -> None:
        self.consumer = consumer
        self.queue = Queue()
        self.clock = FakeClock()
        for offset in range(count):
            self.queue.add(Record(TOPIC, 0, offset, 0, None, b"%d" % offset, []))
        self.held: dict[int, tuple[Any, Any]] = {}

    def poll(self, most: int, prefetch: bool) -> list[int]:
        real = self.consumer.poll(0, most, prefetch=prefetch)
        fake = self.queue.poll(0, most, prefetch=prefetch)
        ours = [record for records in real.values() for record in records]
        theirs = [record for records in fake.values() for record in records]
        assert [one.offset for one in ours] == [one.offset for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            self.held[one.offset] = one, other
        return [one.offset for one in ours]

    def call(self, name: str, offset: int, *arguments: Any, **options: Any) -> Any:
        one, other = self.held[offset]
        said = []
        for who, record in ((self.consumer, one), (self.queue, other)):
            try:
                said.append(getattr(who, name)(record, *arguments, **options))
            except IllegalStateError:
                said.append("not held")
        assert said[0] == said[1], f"{name} of {offset}: {said}"
        return said[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_queue_of_a_runner_answers_as_a_share_group_does(
    bus_dir: Path, broker: "Broker", seed: int
) -> None:
    draw = random.Random(seed)
    with bus.Producer(bus_dir) as producer:
        producer.send_many(TOPIC, [b"%d" % n for n in range(60)]).get(20.0)
    with bus.ShareConsumer(TOPIC, bootstrap_servers=bus_dir, group_id=TOPIC) as consumer:
        both = Both(consumer, 60)
        eventually(lambda: both.consumer.metrics(), what="the group has its partition")
        for _ in range(400):
            step(both, draw)


def step(both: Both, draw: random.Random) -> None:
    """One operation on both; delays are not tried, for the real ones take their time."""
    if not both.held or draw.random() < 0.3:
        both.poll(draw.randint(1, 5), prefetch=draw.random() < 0.5)
        return
    offset = draw.choice(list(both.held))
    what = draw.choice(["start", "attempts", "ack", "nack", "release", "reject"])
    if what == "nack":
        both.call(what, offset, cause=draw.choice(CAUSES))
    else:
        both.call(what, offset)
