"""What durability costs: a default topic with acks="all" against bare writes and fdatasync."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bus
from benchmarks.handles import topic
from benchmarks.pairs import percentile
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "durable"
TITLE = "replicated topic, acks=all, against a file that is written and fdatasynced"
RECORD_BYTES = 1024
CHUNK_BYTES = 1 << 20
FULL_BYTES = 256 << 20
QUICK_BYTES = 64 << 20
PEER = "write + fdatasync"
THROUGHPUT = "durable 1 KiB, one flush"
LATENCY = {"p50": 0.5, "p99": 0.99}
WARM = 20

TARGETS = (
    Target("durable throughput against a file", ratio(THROUGHPUT, PEER), 0.8),
    Target("durable send().get(), p50, against a file", ratio("durable p50", PEER), 2, True),
)


def run(stage: Stage) -> None:
    """Throughput, then latency; the bus and the bare file in turns."""
    stage.results.note(
        "durable: the file gets the payload only, in writes of 1 MiB and one fdatasync; the bus "
        "writes a header of 48 bytes and padding with each record. Disk figures vary widely."
    )
    total = QUICK_BYTES if stage.quick else FULL_BYTES
    for _ in stage.in_turns(THROUGHPUT):
        with topic(stage.path) as name:
            rate = _bus_rate(stage.path, name, total)
            stage.results.add(THROUGHPUT, "bus", "MB/s", rate)
        stage.results.add(THROUGHPUT, PEER, "MB/s", _file_rate(stage.scratch, total))
    count = 200 if stage.quick else 1000
    with topic(stage.path) as name:
        for _ in stage.in_turns("durable latency"):
            _add_latency(stage, "bus", _bus_latency(stage.path, name, count))
            _add_latency(stage, PEER, _file_latency(stage.scratch, count))


def _bus_rate(path: Path, name: str, total: int) -> float:
    payload = os.urandom(RECORD_BYTES)
    with bus.Producer(path, acks="all") as producer:
        producer.send(name, payload).get(10)
        start = time.monotonic()
        for _ in range(total // RECORD_BYTES):
            producer.send(name, payload)
        producer.flush()
        return total / (time.monotonic() - start) / 1e6


def _file_rate(scratch: Path, total: int) -> float:
    payload = os.urandom(RECORD_BYTES) * (CHUNK_BYTES // RECORD_BYTES)
    with _file(scratch) as fd:
        start = time.monotonic()
        for _ in range(total // CHUNK_BYTES):
            os.write(fd, payload)
        os.fdatasync(fd)
        return total / (time.monotonic() - start) / 1e6


def _bus_latency(path: Path, name: str, count: int) -> list[int]:
    payload = os.urandom(RECORD_BYTES)
    times = []
    with bus.Producer(path, acks="all") as producer:
        for _ in range(count + WARM):
            start = time.perf_counter_ns()
            producer.send(name, payload).get(10)
            times.append(time.perf_counter_ns() - start)
    return times[WARM:]


def _file_latency(scratch: Path, count: int) -> list[int]:
    payload = os.urandom(RECORD_BYTES)
    times = []
    with _file(scratch) as fd:
        os.posix_fallocate(fd, 0, (count + WARM) * RECORD_BYTES)
        os.fsync(fd)
        for number in range(count + WARM):
            start = time.perf_counter_ns()
            os.pwrite(fd, payload, number * RECORD_BYTES)
            os.fdatasync(fd)
            times.append(time.perf_counter_ns() - start)
    return times[WARM:]


def _add_latency(stage: Stage, subject: str, times: list[int]) -> None:
    for label, share in LATENCY.items():
        stage.results.add(f"durable {label}", subject, "µs", percentile(times, share) / 1000)


@contextmanager
def _file(scratch: Path) -> Iterator[int]:
    path = scratch / "bare"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)
        path.unlink()
