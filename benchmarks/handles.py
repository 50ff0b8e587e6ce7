"""Short ways to the bus that several scenarios share: topics, consumers, status, PSS."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import bus
from bus.control import ControlClient
from bus.directory import BusDirectory

#: A new topic's replicas run within this time.
START_TIMEOUT_S = 10.0
PAUSE_S = 0.01

_numbers = itertools.count(1)


@contextlib.contextmanager
def topic(path: Path, *, partitions: int = 1, **configs: str) -> Iterator[str]:
    """A topic for as long as the block lasts; `retention_ms="1"` means the config retention.ms."""
    name = f"bench-{next(_numbers)}"
    topic_configs = {key.replace("_", "."): value for key, value in configs.items()}
    with bus.Admin(path) as admin:
        admin.create_topics([bus.NewTopic(name, partitions, topic_configs=topic_configs)])
        try:
            yield name
        finally:
            admin.delete_topics([name])


def assigned(path: Path, name: str, partition: int = 0, **options: Any) -> bus.Consumer:
    """A consumer at the beginning of one partition, attached."""
    consumer = bus.Consumer(bootstrap_servers=path, **options)
    consumer.assign([bus.TopicPartition(name, partition)])
    consumer.seek_to_beginning()
    consumer.poll(0)
    return consumer


def status(path: Path) -> dict[str, Any]:
    """What `bus status --json` prints."""
    with BusDirectory.open(path) as directory:
        client = ControlClient(directory)
        try:
            return client.call("status")
        finally:
            client.close()


def replica_pids(path: Path, name: str, partitions: int) -> list[int]:
    """The replica of each partition of a topic, as soon as all of them run."""
    limit = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < limit:
        replicas = [one for one in status(path)["replicas"] if one["topic"] == name]
        pids = [int(one["pid"]) for one in replicas if one["state"] == "running"]
        if len(pids) == partitions:
            return pids
        time.sleep(PAUSE_S)
    raise TimeoutError(f"the replicas of {name} do not run after {START_TIMEOUT_S} s")


def pss_mib(pid: int) -> float:
    """Memory of a process in MiB, shared pages divided by those who share them."""
    pss: int = psutil.Process(pid).memory_full_info().pss
    return pss / (1 << 20)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that these processes have used so far."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(time.user + time.system for time in times)
