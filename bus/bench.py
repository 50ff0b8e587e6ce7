"""Bench: the quick figures of this machine, one process sending and one reading.

Each figure is one short run, so it moves by some ten percent; `benchmarks/` in the repository
compares medians with other systems.

    python -m bus.bench ROLE DIR TOPIC COUNT     the other process: "reads", "polls" or "echoes"
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bus.admin import Admin
from bus.autostart import environment
from bus.consumer import Consumer
from bus.errors import BusError
from bus.native.core import ConsumerRecord
from bus.producer import Producer
from bus.structs import NewTopic

MEMORY = {"durability": "memory"}
#: Records of one `send_many`, and of one poll.
BATCH = 100
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: what, how much, in which unit."""

    name: str
    value: float
    unit: str


def measure(directory: Path, scale: float = 1.0) -> Iterator[Figure]:
    """Each figure as soon as it is known. `scale` multiplies the numbers of records.

    Creates topics named bench-* in the bus and deletes them.
    """
    yield _throughput(directory, "reads", int(400_000 * scale))
    yield _throughput(directory, "polls", int(1_000_000 * scale))
    yield _large(directory, int(2_000 * scale))
    yield from _round_trips(directory, int(5_000 * scale))
    yield from _durable_latency(directory, int(500 * scale))


def _throughput(directory: Path, role: str, count: int) -> Figure:
    value = b"x" * 100
    count = max(BATCH, count // BATCH * BATCH)

    def send(producer: Producer, topic: str) -> None:
        if role == "reads":
            for _ in range(count):
                producer.send(topic, value)
        else:
            values = [value] * BATCH
            for _ in range(count // BATCH):
                producer.send_many(topic, values)

    seconds = _run(directory, role, count, send)
    name = "send → iterate" if role == "reads" else f"send_many({BATCH}) → poll"
    return Figure(f"{name}, 100 B", count / seconds, "records/s")


def _large(directory: Path, count: int) -> Figure:
    value = b"x" * (1 << 20)
    count = max(10, count)

    def send(producer: Producer, topic: str) -> None:
        for _ in range(count):
            producer.send(topic, value)

    seconds = _run(directory, "reads", count, send)
    return Figure("send → read in place, 1 MiB", count * len(value) / seconds, "bytes/s")


def _run(directory: Path, role: str, count: int, send: Callable[[Producer, str], None]) -> float:
    """Seconds from the first send to the last record read by the other process."""
    with (
        _topics(directory, "bench-there") as (topic,),
        _peer(role, directory, topic, count) as peer,
    ):
        with Producer(directory, acks=1, client_id="bench") as producer:
            started = time.monotonic()
            send(producer, topic)
        return float(_line(peer)) - started


def _round_trips(directory: Path, count: int) -> Iterator[Figure]:
    count = max(10, count)
    times = []
    with (
        _topics(directory, "bench-there", "bench-back") as (there, back),
        _peer("echoes", directory, there, count) as _,
        Producer(directory, acks=1, client_id="bench") as producer,
        Consumer(back, bootstrap_servers=directory, auto_offset_reset="earliest") as consumer,
    ):
        records = iter(consumer)
        for _ in range(count):
            started = time.perf_counter()
            producer.send(there, b"x" * 64)
            next(records)
            times.append(time.perf_counter() - started)
    yield from _percentiles("round trip, 64 B", times)


def _durable_latency(directory: Path, count: int) -> Iterator[Figure]:
    times = []
    with (
        _topics(directory, "bench-durable", configs={}) as (topic,),
        Producer(directory, acks="all", client_id="bench") as producer,
    ):
        for _ in range(max(10, count)):
            started = time.perf_counter()
            producer.send(topic, b"x" * 100).get()
            times.append(time.perf_counter() - started)
    yield from _percentiles("send(…).get(), acks=all", times)


def _percentiles(name: str, times: list[float]) -> Iterator[Figure]:
    ordered = sorted(times)
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        yield Figure(f"{name}, {label}", ordered[int(share * (len(ordered) - 1))], "s")


@contextmanager
def _topics(
    directory: Path, *names: str, configs: dict[str, str] | None = None
) -> Iterator[tuple[str, ...]]:
    """New topics of one partition, deleted afterwards."""
    chosen = MEMORY if configs is None else configs
    with Admin(directory, client_id="bench-admin") as admin:
        admin.create_topics([NewTopic(name, 1, topic_configs=chosen) for name in names])
        try:
            yield names
        finally:
            admin.delete_topics(names)


@contextmanager
def _peer(
    role: str, directory: Path, topic: str, count: int
) -> Iterator["subprocess.Popen[bytes]"]:
    """The other process, attached and waiting for records."""
    command = [sys.executable, "-P", "-m", "bus.bench", role, str(directory), topic, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/", env=environment()) as process:
        try:
            _line(process)
            yield process
        except BaseException:
            process.kill()
            raise


def _line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BusError("the reading process of the benchmark failed; its error is above")
    return line


# ------------------------------------------------------------------------- the other process


def main() -> None:
    """The other process: say when it is ready, take COUNT records, say when the last one came."""
    role, directory, topic, count = sys.argv[1:]
    with Consumer(topic, bootstrap_servers=directory, auto_offset_reset="earliest") as consumer:
        print("ready", flush=True)
        if role == "echoes":
            _echo(consumer, directory, int(count))
        else:
            take = _read if role == "reads" else _poll
            take(consumer, int(count))
        print(time.monotonic(), flush=True)


def _read(consumer: Consumer, count: int) -> None:
    for done, record in enumerate(consumer, 1):
        _touch(record)
        if done == count:
            return


def _touch(record: ConsumerRecord) -> None:
    """Read a byte of every page of the value, in place."""
    view = record.view()
    for at in range(0, len(view), _PAGE):
        view[at]


def _poll(consumer: Consumer, count: int) -> None:
    left = count
    while left > 0:
        for records in consumer.poll(timeout_ms=1000).values():
            left -= len(records)


def _echo(consumer: Consumer, directory: str, count: int) -> None:
    with Producer(directory, acks=1) as producer:
        for done, record in enumerate(consumer, 1):
            producer.send("bench-back", record.value)
            if done == count:
                return


if __name__ == "__main__":
    main()
