"""One worker process: takes files from the group's partitions, sends counts, then commits.

    python -m bus.demo.worker DIR GROUP SOURCES COUNTS PARENT_PID

The order is the guarantee: counts are sent, `flush` returns when they are on disk, and only then
the files are committed. Killed anywhere, the worker leaves files that are counted twice at worst,
never files that are not counted.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType

from bus.consumer import Consumer
from bus.demo.tally import count_tokens
from bus.errors import CommitFailedError
from bus.native.core import ConsumerRecord
from bus.producer import Producer
from bus.structs import TopicPartition

#: Files taken at once: what a kill makes the others do again.
BATCH = 8
_POLL_MS = 200


class Worker:
    """Reads `sources` as a member of `group` and sends to `counts`, until the parent is gone."""

    def __init__(self, directory: str, group: str, sources: str, counts: str) -> None:
        self._counts = counts
        self._producer = Producer(directory, client_id=group)
        self._consumer = Consumer(
            sources,
            bootstrap_servers=directory,
            group_id=group,
            client_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=BATCH,
        )

    def run(self, parent_pid: int) -> None:
        """Work until the parent ends: an orphan would wait for files for ever."""
        with self._producer, self._consumer:
            while os.getppid() == parent_pid:
                polled = self._consumer.poll(timeout_ms=_POLL_MS)
                if polled:
                    self._work(polled.values())
                    self._commit(polled)

    def _work(self, batches: Iterable[list[ConsumerRecord]]) -> None:
        for batch in batches:
            for record in batch:
                result = {
                    "worker": os.getpid(),
                    "partition": record.partition,
                    "counts": count_tokens(record.value),
                }
                self._producer.send(self._counts, json.dumps(result).encode(), key=record.key)
        self._producer.flush()

    def _commit(self, polled: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        try:
            self._consumer.commit()
        except CommitFailedError as error:
            # The partition went to another worker, which does these files again: nothing is lost.
            print(f"worker {os.getpid()}: {len(polled)} partitions: {error}", file=sys.stderr)


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> None:
    """Run a worker with the arguments of the command line."""
    signal.signal(signal.SIGTERM, _end)
    # Ctrl-C in a terminal reaches all processes: the parent ends the workers in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    *names, parent_pid = sys.argv[1:]
    # A parent that was killed before now may have taken its bus along: it must not start again.
    if os.getppid() == int(parent_pid):
        Worker(*names).run(int(parent_pid))


if __name__ == "__main__":
    main()
