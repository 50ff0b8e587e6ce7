"""A cold start on a large log, as after a power failure: only the tail may be read."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import psutil

import bus
from benchmarks.handles import status
from benchmarks.stage import Stage
from benchmarks.targets import Target, median

NAME = "start"
TITLE = "broker start after everything was killed and the hot log is gone"
TOPIC = "large"
RECORD_BYTES = 1 << 20
FULL_BYTES = 10 << 30
QUICK_BYTES = 1 << 30
MEASURE = "broker start on {} GiB of durable log"
SHARED_MEMORY = Path("/dev/shm")

TARGETS = (Target("broker start on 10 GiB, s", median(MEASURE.format(FULL_BYTES >> 30)), 2, True),)


def run(stage: Stage) -> None:
    """Writes the log once, then kills and starts the broker several times."""
    stage.results.note("start: the file system's cache is warm; only the tail segment is scanned.")
    total = QUICK_BYTES if stage.quick else FULL_BYTES
    path = stage.scratch / "large-bus"
    if shutil.disk_usage(stage.scratch).free < 2 * total:
        stage.results.note(f"start: skipped, {2 * total >> 30} GiB of free disk are needed")
        return
    try:
        _measure(stage, path, total)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _measure(stage: Stage, path: Path, total: int) -> None:
    broker = bus.Broker(path)
    broker.start()
    try:
        _fill(path, total)
        for _ in stage.in_turns(NAME):
            _lose_power(path, broker)
            start = time.monotonic()
            broker = bus.Broker(path)
            broker.start()
            seconds = time.monotonic() - start
            stage.results.add(MEASURE.format(total >> 30), "bus", "s", seconds)
            _append_one(path)
    finally:
        broker.stop()


def _fill(path: Path, total: int) -> None:
    with bus.Admin(path) as admin:
        admin.create_topics([bus.NewTopic(TOPIC, topic_configs={"retention.ms": "-1"})])
    payload = os.urandom(RECORD_BYTES)
    with bus.Producer(path, acks="all") as producer:
        for _ in range(total // RECORD_BYTES):
            producer.send(TOPIC, payload)
        producer.flush()


def _append_one(path: Path) -> None:
    """The recovered log goes on."""
    with bus.Producer(path, acks="all") as producer:
        producer.send(TOPIC, b"after the start").get(30)


def _lose_power(path: Path, broker: bus.Broker) -> None:
    """Kills every process of the bus and removes what only lived in memory."""
    now = status(path)
    pids = {broker.pid, *(replica["pid"] for replica in now["replicas"])}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids - {broker.pid}:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(10)
    with contextlib.suppress(Exception):  # it was killed; this only reaps it
        broker.stop()
    hot = Path(now["hot_dir"])
    shutil.rmtree(hot, ignore_errors=True)
    for semaphore in SHARED_MEMORY.glob(f"sem.bus-{hot.name.rsplit('-', 1)[-1]}-*"):
        semaphore.unlink(missing_ok=True)
