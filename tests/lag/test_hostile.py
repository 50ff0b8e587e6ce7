"""Words that somebody wrote over: producers wait, or pass, for a moment; nothing is lost."""

import random
import struct
from pathlib import Path

import pytest

from bus.broker import Broker
from bus.client import Client
from bus.errors import BackpressureError
from bus.liveness import ROLE_ADMIN
from bus.native.core import LAYOUT
from tests.broker.rig import status
from tests.lag.rig import VALUE, Blocked, commit, fill, limited_topic, reader, sender
from tests.waiting import eventually

_WORDS = LAYOUT["bus_partition.lag_gate"]
_EVERYTHING = (1 << 64) - 1
LIMIT = 10


def overwrite(path: Path, *words: int) -> None:
    """The three words of t-0: gate, tail, from."""
    with Client.connect(path, role=ROLE_ADMIN, client_id="test") as client:
        page = Path(client.call("status")["hot_dir"]) / f"{client.topic('t').id}-0.ctl"
    with page.open("r+b") as file:
        file.seek(_WORDS)
        file.write(struct.pack("<3Q", *words))


def mended(path: Path) -> int:
    return int(status(path)["counters"]["lag_gate_mended"])


@pytest.mark.parametrize("gate", [0, 1 << 40], ids=["no gate", "a gate far away"])
def test_a_gate_that_was_opened_is_found_closed_and_counted(
    bus_dir: Path, broker: Broker, gate: int
):
    limited_topic(bus_dir, max_lag_records=LIMIT)
    with reader(bus_dir) as consumer, sender(bus_dir) as producer:
        assert fill(producer) == LIMIT
        overwrite(bus_dir, gate, _EVERYTHING, _EVERYTHING)
        eventually(lambda: mended(bus_dir) == 1, what="the guard has found it")
        end = consumer.end_offsets(consumer.assignment()).popitem()[1]
        assert fill(producer) == 0
        commit(consumer, end - LIMIT + 1)
        assert fill(producer) == 1


def test_a_place_that_was_moved_away_counts_again_after_a_round_of_the_guard(shared_bus: Path):
    limited_topic(shared_bus, max_lag_bytes=1000)
    with reader(shared_bus), sender(shared_bus) as producer:
        fill(producer)
        overwrite(shared_bus, _EVERYTHING, _EVERYTHING, 0)

        def is_refused() -> bool:
            try:
                producer.send("t", VALUE)
            except BackpressureError:
                return True
            return False

        eventually(is_refused, what="the guard has closed the gate")


def test_random_words_stop_nobody_for_good_and_lose_nothing(shared_bus: Path):
    chance = random.Random(5)
    limited_topic(shared_bus, max_lag_records=LIMIT)
    sent = 0
    with reader(shared_bus) as consumer, sender(shared_bus, 60_000) as producer:
        for _ in range(20):
            words = [chance.choice([0, 1, chance.getrandbits(64), _EVERYTHING]) for _ in range(3)]
            overwrite(shared_bus, *words)
            waiting = Blocked(producer, 2)
            while waiting.is_alive() or consumer.lag()[consumer.assignment().copy().pop()]:
                sent += sum(map(len, consumer.poll(timeout_ms=50).values()))
                consumer.commit()
            assert waiting.error is None
    assert sent == 40


def test_a_gate_in_a_topic_without_a_limit_costs_one_look(bus_dir: Path, broker: Broker):
    limited_topic(bus_dir)
    with reader(bus_dir), sender(bus_dir) as producer:
        producer.send("t", VALUE)
        overwrite(bus_dir, 1, 0, 0)
        producer.send("t", VALUE)
        overwrite(bus_dir, 1 << 40, 0, 0)
        eventually(lambda: mended(bus_dir) == 1, what="the guard has found it")
        producer.send("t", VALUE)
