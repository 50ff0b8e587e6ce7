"""Memory of an idle partition, of a replica, and of being attached."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.handles import pss_mib, replica_pids, status, topic
from benchmarks.stage import Stage
from benchmarks.targets import Target, median

NAME = "memory"
TITLE = "an idle partition, a replica process, an attached client over bare Python"
PARTITIONS = 4
PARTITION = "hot memory of an idle partition"
REPLICA = "PSS of a replica"
CLIENT = "PSS of an attached client over bare Python"
MIB = 1 << 20

TARGETS = (
    Target("idle partition, MiB", median(PARTITION), 1.3, True),
    Target("replica, MiB", median(REPLICA), 8, True),
    Target("attached producer, MiB over bare Python", median(CLIENT, "producer"), 10, True),
    Target("attached consumer, MiB over bare Python", median(CLIENT, "consumer"), 10, True),
)

#: Run in a fresh interpreter, so that nothing is shared with this one by a fork.
BARE = """
import sys
def pss():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Pss:"):
            return int(line.split()[1])
"""
PRODUCER = """
import bus
producer = bus.Producer(sys.argv[1])
producer.send(sys.argv[2], b"x").get(10)
"""
CONSUMER = """
import bus
consumer = bus.Consumer(sys.argv[2], bootstrap_servers=sys.argv[1], auto_offset_reset="earliest")
consumer.poll(5000)
"""
REPORT = "print(pss())\n"


def run(stage: Stage) -> None:
    """All three, several times."""
    for _ in stage.in_turns(NAME):
        before = _allocated(_hot_dir(stage))
        with topic(stage.path, partitions=PARTITIONS) as name:
            grown = _allocated(_hot_dir(stage)) - before
            stage.results.add(PARTITION, "bus", "MiB", grown / PARTITIONS / MIB)
            for pid in replica_pids(stage.path, name, PARTITIONS):
                stage.results.add(REPLICA, "bus", "MiB", pss_mib(pid))
            bare = _pss_of(BARE + REPORT, stage.path, name)
            for subject, program in (("producer", PRODUCER), ("consumer", CONSUMER)):
                attached = _pss_of(BARE + program + REPORT, stage.path, name)
                stage.results.add(CLIENT, subject, "MiB", attached - bare)


def _hot_dir(stage: Stage) -> Path:
    return Path(status(stage.path)["hot_dir"])


def _allocated(directory: Path) -> int:
    """Bytes that the files really take; a control page that nobody touched takes none."""
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(directory))


def _pss_of(program: str, path: Path, name: str) -> float:
    command = [sys.executable, "-c", program, str(path), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout) / 1024
