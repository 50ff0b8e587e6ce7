"""Starts on a large log: after a power failure, and after everything was killed.

After a loss of power the hot log is gone, and only the tail of the durable one may be read. After
kill -9 of everything the hot log is still there, and is taken over as it is.
"""

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
TITLE = "broker start after everything was killed, with the hot log and without"
TOPIC = "large"
RECORD_BYTES = 1 << 20
FULL_BYTES = 10 << 30
QUICK_BYTES = 1 << 30
KILLED_BYTES = 1 << 30
MEASURE = "broker start on {} GiB of durable log"
KILLED = "all killed, log of 1 GiB: until a record is durable again"
SHARED_MEMORY = Path("/dev/shm")

TARGETS = (
    Target("broker start on 10 GiB, s", median(MEASURE.format(FULL_BYTES >> 30)), 2, True),
    Target("recovery after kill -9 of everything, 1 GiB, s", median(KILLED), 1, True),
)


def run(stage: Stage) -> None:
    """Writes the log once, then kills and starts the broker several times."""
    stage.results.note("start: the file system's cache is warm; only the tail segment is scanned.")
    total = QUICK_BYTES if stage.quick else FULL_BYTES
    path = stage.scratch / "large-bus"
    if shutil.disk_usage(stage.scratch).free < 2 * total:
        stage.results.note(f"start: skipped, {2 * total >> 30} GiB of free disk are needed")
        return
    for measure, size in ((_after_a_power_failure, total), (_after_a_kill, KILLED_BYTES)):
        broker = bus.Broker(path)
        broker.start()
        try:
            _fill(path, size)
            for _ in stage.in_turns(NAME):
                broker = measure(stage, path, broker)
        finally:
            broker.stop()
            shutil.rmtree(path, ignore_errors=True)


def _after_a_power_failure(stage: Stage, path: Path, broker: bus.Broker) -> bus.Broker:
    total = QUICK_BYTES if stage.quick else FULL_BYTES
    hot = Path(status(path)["hot_dir"])
    _kill_all(path, broker)
    _lose_memory(hot)
    start = time.monotonic()
    broker = bus.Broker(path)
    broker.start()
    stage.results.add(MEASURE.format(total >> 30), "bus", "s", time.monotonic() - start)
    _append_one(path)  # the recovered log goes on
    return broker


def _after_a_kill(stage: Stage, path: Path, broker: bus.Broker) -> bus.Broker:
    _kill_all(path, broker)
    start = time.monotonic()
    broker = bus.Broker(path)
    broker.start()
    _append_one(path)
    stage.results.add(KILLED, "bus", "s", time.monotonic() - start)
    return broker


def _fill(path: Path, total: int) -> None:
    with bus.Admin(path) as admin:
        admin.create_topics([bus.NewTopic(TOPIC, topic_configs={"retention.ms": "-1"})])
    payload = os.urandom(RECORD_BYTES)
    with bus.Producer(path, acks="all") as producer:
        for _ in range(total // RECORD_BYTES):
            producer.send(TOPIC, payload)
        producer.flush()


def _append_one(path: Path) -> None:
    with bus.Producer(path, acks="all") as producer:
        producer.send(TOPIC, b"after the start").get(30)


def _kill_all(path: Path, broker: bus.Broker) -> None:
    pids = {broker.pid, *(replica["pid"] for replica in status(path)["replicas"])}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids - {broker.pid}:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(10)
    with contextlib.suppress(Exception):  # it was killed; this only reaps it
        broker.stop()


def _lose_memory(hot: Path) -> None:
    """Removes what only lived in memory."""
    shutil.rmtree(hot, ignore_errors=True)
    for semaphore in SHARED_MEMORY.glob(f"sem.bus-{hot.name.rsplit('-', 1)[-1]}-*"):
        semaphore.unlink(missing_ok=True)
