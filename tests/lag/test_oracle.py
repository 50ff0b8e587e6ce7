"""Random operations against a model of a few lines, and processes that race against the commits."""

import random
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import bus
from bus.admin import Admin
from bus.errors import BackpressureError
from bus.structs import TopicPartition
from tests.children import Fork, Report
from tests.lag.rig import (
    FRAME_BYTES,
    T0,
    VALUE,
    alter,
    commit,
    committed,
    limited_topic,
    reader,
    sender,
)

STEPS = 120


class Model:
    """What the commits allow, computed from what was done."""

    def __init__(self) -> None:
        self.end = 0
        self.commits = {"a": 0, "b": 0}
        self.records: int | None = None
        self.bytes: int | None = None

    def takes(self, count: int) -> int:
        """How many of so many records there is room for."""
        slowest = min(self.commits.values())
        room = count
        if self.records is not None:
            room = min(room, slowest + self.records - self.end)
        if self.bytes is not None:  # a record is taken if what lags before it is below the limit
            room = min(room, slowest + -(-self.bytes // FRAME_BYTES) - self.end)
        return max(room, 0)


def send(producer: bus.Producer, count: int) -> int:
    before = producer.records_sent
    try:
        producer.send_many("t", [VALUE] * count)
    except BackpressureError:
        assert producer.records_sent - before < count
    return producer.records_sent - before


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_sends_commits_and_limits_takes_what_the_model_takes(
    shared_bus: Path, seed: int
):
    chance = random.Random(seed)
    durability = chance.choice(["memory", "replicated"])
    limited_topic(shared_bus, groups="a,b", durability=durability)
    model = Model()
    with ExitStack() as stack:
        groups = {name: stack.enter_context(reader(shared_bus, name)) for name in model.commits}
        producers = [stack.enter_context(sender(shared_bus)) for _ in range(2)]
        for step in range(STEPS):
            action = chance.choice(["send", "send", "commit", "commit", "back", "limit"])
            group = chance.choice("ab")
            if action == "send":
                count = chance.choice([1, 2, 10, 300])
                expected = model.takes(count)
                assert send(chance.choice(producers), count) == expected, (seed, step)
                model.end += expected
            elif action == "limit" and chance.random() < 0.4:
                model.records = chance.choice([None, 1, 50, 1000])
                model.bytes = chance.choice([None, 1, 50 * FRAME_BYTES, 999 * FRAME_BYTES + 1])
                alter(shared_bus, max_lag_records=model.records, max_lag_bytes=model.bytes)
            elif action == "commit" or chance.random() < 0.2:
                low = model.commits[group] if action == "commit" else 0
                offset = chance.randint(low, model.end)
                commit(groups[group], offset)
                model.commits[group] = offset
    assert model.end > 0


def test_producers_that_race_never_leave_more_behind_than_the_limit(shared_bus: Path, fork: Fork):
    limit, total = 200, 6_000
    limited_topic(shared_bus, max_lag_records=limit)

    def send_much(report: Report) -> None:
        with sender(shared_bus, 60_000) as producer:
            for number in range(total // 30):
                producer.send_many("t", [VALUE] * 10)
                report(number)

    exceeded: list[int] = []
    over = threading.Event()

    def watch() -> None:
        with Admin(shared_bus) as admin:
            while not over.is_set():
                end = admin.describe_topics(["t"])[0]["partitions"][0]["log_end_offset"]
                if end - committed(shared_bus) > limit:  # looked at later, so it can only be less
                    exceeded.append(end)

    chance = random.Random(7)
    with reader(shared_bus) as consumer:
        children = [fork(send_much) for _ in range(3)]
        watcher = threading.Thread(target=watch)
        watcher.start()
        seen = 0
        try:
            while seen < total:
                most = chance.choice([1, 20, 150])
                seen += sum(map(len, consumer.poll(timeout_ms=2000, max_records=most).values()))
                consumer.commit()
                assert consumer.highwater(T0) - committed(shared_bus) <= limit
        finally:
            over.set()
            watcher.join()
        assert [child.wait() for child in children] == [0, 0, 0]
        assert consumer.highwater(TopicPartition("t", 0)) == total
    assert exceeded == []
