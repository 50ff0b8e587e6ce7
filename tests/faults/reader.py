"""A member of a group that keeps a diary of what it was given, commits it, and is killed.

    python -m tests.faults.reader DIR TOPIC GROUP DIARY

A line of the diary, "PARTITION OFFSET DIGEST", is written before the offset is committed: what is
committed was delivered to somebody.
"""

import os
import sys

import bus
from bus.errors import CommitFailedError
from bus.native.core import ConsumerRecord
from tests.faults.witness import digest

_POLL_MS = 200.0


def _line(record: ConsumerRecord) -> str:
    return f"{record.partition} {record.offset} {digest(record.key, record.value).hex()}\n"


def main() -> None:
    """Read until killed."""
    path, topic, group, diary = sys.argv[1:]
    fd = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    consumer = bus.Consumer(
        topic,
        bootstrap_servers=path,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=50,
    )
    while True:
        for batch in consumer.poll(timeout_ms=_POLL_MS).values():
            os.write(fd, "".join(map(_line, batch)).encode())
        try:
            consumer.commit()
        except CommitFailedError as error:
            # The partition went to another member meanwhile, and these records with it.
            print(f"reader {os.getpid()}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
