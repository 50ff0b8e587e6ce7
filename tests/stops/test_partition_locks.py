"""A process is stopped in a partition's lock: who waits, for how long, and who does not."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bus
from bus.client import Client
from bus.errors import LockTimeoutError
from bus.liveness import ROLE_ADMIN
from bus.native.core import Partition
from tests.broker.rig import status
from tests.children import Child, Fork, Report
from tests.faults.witness import read_all
from tests.stops.holding import (
    PARTITION_LOCK,
    control_file,
    hold,
    sender,
    stop_in_append,
    wait_stopped,
)
from tests.waiting import eventually

MIB = 1 << 20
BLOCK_MS = 300
#: Places in an append at which a producer is stopped; more by BUS_FAULT_STOPS.
STOPS = int(os.environ.get("BUS_FAULT_STOPS", "4"))
#: an append of a small record takes about 500 instructions under the lock; at 390 it is published
INSTRUCTIONS = 480


@pytest.fixture
def topic(broker: bus.Broker, bus_dir: Path) -> Iterator[Partition]:
    """Partition 0 of topic "t", which has two."""
    with bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", 2, topic_configs={"hot.bytes": str(8 * MIB)})])
    with Client.connect(bus_dir, role=ROLE_ADMIN, client_id="looker", autostart=False) as client:
        yield client.partition(client.topic("t"), 0)


def holder(path: Path, fork: Fork, partition: int = 0) -> Child:
    """A process that is attached as "sloth" and stopped in the lock of a partition."""
    file = control_file(path, "t", partition)

    def body(report: Report) -> None:
        with bus.Producer(path, client_id="sloth", autostart=False):
            hold(file, PARTITION_LOCK)
            report("released")

    child = fork(body)
    wait_stopped(child.pid)
    return child


def named(pid: int) -> str:
    """What an error says about the holder."""
    return rf"was locked for {BLOCK_MS} ms by pid {pid} \(.*'sloth', state T \(stopped\)\); let it"


def values(path: Path) -> list[bytes]:
    return [record.value for record in read_all(path, ["t"])["t", 0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda producer: producer.send("t", b"x", partition=0),
        lambda producer: producer.send_many("t", [b"x"] * 1000, partition=0),
    ],
    ids=["send", "send_many"],
)
def test_a_sender_waits_max_block_ms_for_the_lock_and_is_told_who_holds_it(
    topic: Partition, bus_dir: Path, fork: Fork, call: Callable[[bus.Producer], object]
) -> None:
    with bus.Producer(bus_dir, max_block_ms=BLOCK_MS) as producer:
        producer.send("t", b"before", partition=0)
        sloth = holder(bus_dir, fork)
        started = time.monotonic()
        with pytest.raises(LockTimeoutError, match=f"t-0 {named(sloth.pid)}") as caught:
            call(producer)
        waited_ms = (time.monotonic() - started) * 1e3
        assert BLOCK_MS <= waited_ms < BLOCK_MS + 700
        assert (caught.value.owner_pid, caught.value.owner_tid) == (sloth.pid, sloth.pid)
        assert producer.send("t", b"elsewhere", partition=1).get(timeout=10).offset == 0
        sloth.send(signal.SIGCONT)
        assert sloth.next() == "released"
        # what was refused was not stored
        assert producer.send("t", b"after", partition=0).get(timeout=10).offset == 1
    assert values(bus_dir) == [b"before", b"after"]


def test_no_reader_waits_for_a_stopped_process_not_even_one_that_comes_new(
    topic: Partition, bus_dir: Path, fork: Fork
) -> None:
    with bus.Producer(bus_dir) as producer:
        producer.send_many("t", [b"%d" % number for number in range(100)], partition=0)
        producer.flush(timeout=10)
    holder(bus_dir, fork)
    for until in ("written", "durable"):
        started = time.monotonic()
        with bus.Consumer(
            bootstrap_servers=bus_dir, auto_offset_reset="earliest", read_until=until
        ) as consumer:
            consumer.assign([bus.TopicPartition("t", 0)])
            read = [record.value for record in _read(consumer, 100)]
        assert read == [b"%d" % number for number in range(100)]
        assert time.monotonic() - started < 2


def _read(consumer: bus.Consumer, count: int) -> list[bus.ConsumerRecord]:
    records: list[bus.ConsumerRecord] = []
    while len(records) < count:
        for some in consumer.poll(timeout_ms=2000).values():
            records += some
    return records


@pytest.mark.timeout(60 + 3 * STOPS)
def test_stopped_at_any_instruction_of_an_append_nothing_is_torn_lost_or_doubled(
    topic: Partition, bus_dir: Path, fork: Fork
) -> None:
    seed = int(os.environ.get("BUS_FAULT_SEED", str(int.from_bytes(os.urandom(3), "big"))))
    print(f"BUS_FAULT_SEED={seed}")
    dice = random.Random(seed)
    sent: list[bytes] = []
    for turn in range(STOPS):
        mine = [b"%d-%d" % (turn, number) for number in range(3)]
        child = sender(bus_dir, fork, mine)
        stop_in_append(child, topic, dice.randrange(INSTRUCTIONS))
        named = rf"pid {child.pid} .*'sloth', state T"
        with (
            bus.Producer(bus_dir, max_block_ms=50) as producer,
            pytest.raises(LockTimeoutError, match=named),
        ):
            producer.send("t", b"never", partition=0)
        assert values(bus_dir)[: len(sent) + 1] == [*sent, mine[0]]
        child.send(signal.SIGCONT)
        sent += mine
        assert [child.next(), child.next()] == [len(sent) - 2, len(sent) - 1]
        assert child.wait() == 0
    assert values(bus_dir) == sent


def test_the_broker_goes_on_with_all_others_and_counts_the_holder_once(
    topic: Partition, bus_dir: Path, fork: Fork
) -> None:
    sloth = holder(bus_dir, fork)
    started = time.monotonic()
    with (
        bus.Producer(bus_dir, acks=1, max_block_ms=5000) as producer,
        bus.Producer(bus_dir, max_block_ms=100) as blocked,
        bus.Admin(bus_dir) as admin,
    ):
        for _ in range(24):  # many segments of the other partition: the broker makes each file
            producer.send("t", bytes(MIB), partition=1)
        with pytest.raises(LockTimeoutError):
            blocked.send("t", b"x", partition=0)
        admin.create_topics([bus.NewTopic("u")])
        admin.delete_topics(["u"])
        fork(lambda report: _die_attached(bus_dir, report)).wait()
        eventually(lambda: status(bus_dir)["counters"]["clients_reaped"] >= 1, 5)
        assert time.monotonic() - started < 15
    eventually(lambda: len(status(bus_dir)["clients"]) == 2, 5, "the sloth and the looker are left")
    sloth.send(signal.SIGCONT)
    assert sloth.next() == "released"


def _die_attached(path: Path, report: Report) -> None:
    consumer = bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest")
    consumer.assign([bus.TopicPartition("t", 1)])
    consumer.poll(timeout_ms=1000)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_partition_whose_lock_is_held_is_tended_as_soon_as_it_is_free(
    topic: Partition, bus_dir: Path, fork: Fork
) -> None:
    """The broker is asked for a spare while it cannot have the lock; it remembers."""
    with bus.Producer(bus_dir, acks=1, max_block_ms=5000) as producer:
        producer.send("t", bytes(700 << 10), partition=0)
        made = status(bus_dir)["counters"]["spares_made"]
        sloth = holder(bus_dir, fork)
        producer._client.call("tend", topic="t", partition=0, need=2 * MIB)
        counters = status(bus_dir)["counters"]
        assert counters["spares_made"] == made or counters["lock_held"] == 0
        eventually(lambda: status(bus_dir)["counters"]["lock_held"] == 1, 5)
        sloth.send(signal.SIGCONT)
        assert sloth.next() == "released"
        for _ in range(8):
            producer.send("t", bytes(MIB), partition=0)
        assert status(bus_dir)["counters"]["lock_held"] == 1


@pytest.mark.parametrize("further", [60, 370], ids=["before the fence", "past the fence"])
@pytest.mark.parametrize("when", ["while no broker runs", "beside the next broker"])
def test_a_sender_that_was_stopped_in_an_append_while_the_bus_stopped_is_never_believed_wrongly(
    bus_dir: Path, fork: Fork, further: int, when: str
) -> None:
    """The hot log is kept as long as it may get one more record: its `acks` must come true."""
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        admin.create_topics([bus.NewTopic("t", 2)])
        with Client.connect(bus_dir, role=ROLE_ADMIN, client_id="looker", autostart=False) as one:
            child = sender(bus_dir, fork, [b"a", b"b"])
            stop_in_append(child, one.partition(one.topic("t"), 0), further)
    assert (bus_dir / "runtime.json").exists(), "the hot log is kept"
    if when == "while no broker runs":
        child.send(signal.SIGCONT)
        child.wait()
    with bus.Broker(bus_dir):
        if when == "beside the next broker":
            child.send(signal.SIGCONT)
        acknowledged = child.rest()
        child.wait()
        assert values(bus_dir) == [b"a", b"b"][: 1 + len(acknowledged)]
        assert acknowledged == [1] or (further == 60 and when == "while no broker runs")
        with bus.Producer(bus_dir) as producer:
            producer.send("t", b"next", partition=0).get(timeout=10)
    assert not (bus_dir / "runtime.json").exists()
