"""What a broker is asked to do in its life, step by step, and what it acknowledged meanwhile.

The driver never gives up at an error: a step that fails is tried once more, for one failed system
call must not keep the bus from working. When the broker has died, the life is over.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bus
from bus.config import BrokerConfig
from bus.errors import BusError
from bus.structs import TopicPartition
from tests.broker.rig import ask, status
from tests.calls.injector import TracedBroker
from tests.waiting import eventually

KIB = 1 << 10
MIB = 1 << 20
#: A small segment is full after four of these.
LARGE = b"L" * (240 * KIB)
CONFIG = BrokerConfig(retention_check_ms=1, offsets_sync_ms=1, stop_timeout_s=10.0)
SMALL = {"segment.bytes": MIB, "hot.bytes": 4 * MIB}
#: Topics that every life finds, and their partitions; "brief" loses by retention what it holds.
KEPT = {"kept": 2, "rolled": 1, "brief": 1}
#: How long an answer may take, on a machine that does other things as well, in seconds.
ANSWER_S = 20.0
BLOCK_MS = 4000
#: A broker that refuses connections because it is dying is dead after that time, in seconds.
DYING_S = 0.3


@dataclass
class Ledger:
    """Every record that was acknowledged, and since when it may be gone by command."""

    records: dict[TopicPartition, dict[int, bytes]] = field(default_factory=dict)
    #: offsets below it may be gone
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    #: what members of the share group have acknowledged: it may come again, all else must
    worked: set[tuple[TopicPartition, int]] = field(default_factory=set)

    def note(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        """It was acknowledged."""
        known = self.records.setdefault(TopicPartition(topic, partition), {})
        assert known.setdefault(offset, value) == value, f"{topic}-{partition}: {offset} twice"

    def copy(self) -> "Ledger":
        """For a bus that goes on from the same state."""
        records = {partition: dict(offsets) for partition, offsets in self.records.items()}
        return Ledger(records, dict(self.starts), set(self.gone), set(self.worked))

    def required(self) -> Iterator[tuple[TopicPartition, dict[int, bytes]]]:
        """What must be there still."""
        for partition, offsets in self.records.items():
            if partition.topic in self.gone or partition.topic == "brief":
                continue
            start = self.starts.get(partition, 0)
            yield partition, {at: value for at, value in offsets.items() if at >= start}


class Life:
    """One broker's life. `refused` tells the errors that steps met, `stuck` those met twice."""

    def __init__(self, path: Path, broker: TracedBroker, ledger: Ledger) -> None:
        self.path = path
        self.ledger = ledger
        self.refused: list[str] = []
        self.stuck: list[str] = []
        self._broker = broker
        self._sent = 0

    def live(self, steps: "list[Step]") -> None:
        """All steps in order, as long as the broker lives."""
        for step in steps:
            for attempt in (1, 2):
                if not self._broker.is_alive:
                    return
                error = self._attempt(step)
                if error is None:
                    break
                if self._broker.ends_within(DYING_S):
                    return
                (self.refused if attempt == 1 else self.stuck).append(f"{step.__name__}: {error}")

    def _attempt(self, step: "Step") -> str | None:
        try:
            step(self)
        except (BusError, OSError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    # ------------------------------------------------------------------------------- records

    def send(self, producer: bus.Producer, topic: str, count: int, fill: bytes = b"") -> None:
        """Sends records, each with its own bytes, and notes what was acknowledged."""
        for _ in range(count):
            if not self._broker.is_alive:
                raise BusError("the broker is dead")
            self._sent += 1
            value = b"%d %d %s" % (os.getpid(), time.monotonic_ns(), fill)
            done = producer.send(topic, value).get(timeout=ANSWER_S)
            self.ledger.note(topic, done.partition, done.offset, value)

    @contextmanager
    def producer(self, acks: int | str) -> Iterator[bus.Producer]:
        """A producer that starts no broker."""
        with bus.Producer(
            self.path,
            acks=acks,  # type: ignore[arg-type]
            autostart=False,
            batch_size=1,
            max_block_ms=BLOCK_MS,
        ) as producer:
            yield producer

    @contextmanager
    def admin(self) -> Iterator[bus.Admin]:
        """An admin that starts no broker."""
        with bus.Admin(self.path, autostart=False, request_timeout_ms=ANSWER_S * 1e3) as admin:
            yield admin


Step = Callable[[Life], None]


def send_to_kept(life: Life) -> None:
    with life.producer("all") as durable, life.producer(1) as fast:
        life.send(durable, "kept", 4)
        life.send(fast, "kept", 4)


def fill_segments(life: Life) -> None:
    """Three rolls, two of them into spares that the broker has to make."""
    with life.producer(1) as fast, life.producer("all") as durable:
        for topic in ("rolled", "brief"):
            life.send(fast, topic, 10, LARGE)
            life.send(durable, topic, 1)


def create_topics(life: Life) -> None:
    with life.admin() as admin:
        there = admin.list_topics()
        for topic in (
            bus.NewTopic("new", 1, topic_configs=dict(SMALL)),
            bus.NewTopic("memory", 1, topic_configs={"durability": "memory"}),
        ):
            if topic.name not in there:
                admin.create_topics([topic])


def use_new_topics(life: Life) -> None:
    with life.producer("all") as durable:
        life.send(durable, "new", 2)
        durable.send("memory", b"m").get(timeout=ANSWER_S)


def change_topics(life: Life) -> None:
    with life.admin() as admin:
        if "new" in admin.list_topics():
            if len(admin.describe_topics(["new"])[0]["partitions"]) == 1:
                admin.create_partitions({"new": 2})
            admin.alter_configs({"new": {"retention.ms": 3_600_000}})
        admin.alter_configs({"brief": {"retention.bytes": 1}})


def commit_offsets(life: Life) -> None:
    with bus.Consumer(
        "kept",
        bootstrap_servers=life.path,
        group_id="group",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        autostart=False,
    ) as consumer:
        eventually(lambda: consumer.poll(timeout_ms=100), ANSWER_S, "a record for the group")
        consumer.commit()


def work(life: Life) -> None:
    """A member of a share group does every other record that comes, and leaves the rest."""
    with team_member(life.path) as member:
        found = eventually(lambda: member.poll(timeout_ms=100), ANSWER_S, "a record to work on")
        for partition, records in found.items():
            for record in records[::2]:
                life.ledger.worked.add((partition, record.offset))
                member.ack(record)


def team_member(path: Path) -> bus.ShareConsumer:
    """A member of the share group of "kept"; it starts no broker."""
    return bus.ShareConsumer("kept", bootstrap_servers=path, group_id="team", autostart=False)


def die_attached(life: Life) -> None:
    """A client that is killed: the broker reaps it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            producer = bus.Producer(life.path, autostart=False)
            os.write(writer, b"attached")
            signal.pause()
            producer.close()
        finally:
            os._exit(1)
    os.close(writer)
    said = os.read(reader, 100)
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert said, "the client could not attach"
    eventually(
        lambda: not any(row["pid"] == pid for row in status(life.path)["clients"]),
        ANSWER_S,
        "the dead client is reaped",
    )


def delete_records(life: Life) -> None:
    partition = TopicPartition("rolled", 0)
    first = min(life.ledger.records[partition])
    life.ledger.starts[partition] = max(life.ledger.starts.get(partition, 0), first + 5)
    ask(life.path, "delete_records", name="rolled", partition=0, offset=first + 5)


def delete_things(life: Life) -> None:
    life.ledger.gone.add("new")
    with life.admin() as admin:
        left = [name for name in admin.list_topics() if name in ("new", "memory")]
        admin.delete_topics(left)
        admin.delete_groups([group["group_id"] for group in admin.list_groups()])


def send_again(life: Life) -> None:
    """Whatever happened before, every partition takes records and makes them durable."""
    with life.producer("all") as durable:
        for topic, partitions in KEPT.items():
            life.send(durable, topic, 2 * partitions)


def stop(life: Life) -> None:
    ask(life.path, "stop")


BEGINNING: list[Step] = [send_to_kept, work, send_again, stop]
WHOLE: list[Step] = [
    send_to_kept,
    fill_segments,
    create_topics,
    use_new_topics,
    change_topics,
    commit_offsets,
    work,
    die_attached,
    delete_records,
    delete_things,
    work,
    send_again,
    stop,
]


def prepare(life: Life) -> None:
    """The topics that every life finds, with records in them."""
    with life.admin() as admin:
        admin.create_topics(
            [bus.NewTopic(name, count, topic_configs=dict(SMALL)) for name, count in KEPT.items()]
        )
    send_to_kept(life)
    with life.producer("all") as durable:
        life.send(durable, "rolled", 6, LARGE)
        life.send(durable, "brief", 1)
    commit_offsets(life)
    work(life)
