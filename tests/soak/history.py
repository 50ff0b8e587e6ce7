"""What every worker writes down: one file each, one JSON array for each event, appended at once.

A line that stands in the file is in the kernel, and stays when its writer is killed; a kill leaves
at worst a torn last line. Times are CLOCK_MONOTONIC in ns, which all processes of a host share.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

# Of producers
SEND: Final = "send"  # producer, acks, topic, first sequence, count
STORED: Final = "stored"  # producer, [[sequence, partition, offset or -1], …]
DURABLE: Final = "durable"  # producer, [sequence, …]
REFUSED: Final = "refused"  # producer, [sequence, …], error
# Of whoever reads
OPEN: Final = "open"  # reader, group or null
GOT: Final = "got"  # reader, asked, [topic, partition, offset, names], announced before and after
START: Final = "start"  # topic, partition, log start
SEEK: Final = "seek"  # reader, topic, partition, offset
COMMIT: Final = "commit"  # reader, group, asked, [[topic, partition, offset], …], error or ""
CLOSED: Final = "closed"  # reader, clean
# Of the observer
SAMPLE: Final = "sample"  # group, topic, partition, committed, log end; asked
MEMORY: Final = "memory"  # role, pid, resident bytes, descriptors, seconds of life
# Of anybody
ERROR: Final = "error"  # who, what it did, class, text
# Of the nemesis
ACTION: Final = "action"  # name, began, details
KILLED: Final = "killed"  # worker, began
LOSS: Final = "loss"  # "stop" or "reboot", began
TOPIC: Final = "topic"  # name, config
DELETED: Final = "deleted"  # topic
FINAL: Final = "final"  # which, topic, partition, start, end, [[offset, names], …]


class Diary:
    """Appends events to one file; cheap, and never synced: only a dead kernel would lose it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, *words: Any) -> None:
        """One event, with the present time."""
        line = json.dumps([kind, time.monotonic_ns(), *words], separators=(",", ":"))
        os.write(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        """No event comes after it."""
        os.close(self._fd)


def events(folder: Path) -> Iterator[list[Any]]:
    """All whole events, file by file, each file in the order in which it was written."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else a kill has torn it
                    yield json.loads(line)
