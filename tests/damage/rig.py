"""A bus whose files are harmed while it runs, and readers that are inside when that happens."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import bus
from bus.broker import Broker
from bus.errors import BusError, CorruptRecordError, RecordsLostError
from bus.native.core import parse_header

TP: Final = bus.TopicPartition("t", 0)
#: Three segments of 1 MiB and a bit: all of them are hot, and on disk.
RECORDS: Final = 36
VALUE_BYTES: Final = 100_000
DEADLINE_S: Final = 40.0


def value(number: int) -> bytes:
    return (b"value %d " % number * VALUE_BYTES)[:VALUE_BYTES]


@contextmanager
def filled_bus(path: Path, **options: object) -> Iterator[bus.Producer]:
    """A running bus with RECORDS acknowledged records in "t"."""
    config = bus.BrokerConfig(**{"scrub_interval_ms": 200, "scrub_bytes_per_s": 1 << 30} | options)
    with Broker(path, config=config), bus.Admin(path) as admin:
        admin.create_topics({"t": {"configs": {"segment.bytes": 1 << 20, "hot.bytes": 8 << 20}}})
        producer = bus.Producer(path)
        for number in range(RECORDS):
            last = producer.send("t", value(number))
        last.get(timeout=30)
        yield producer
        with suppress(RecordsLostError):  # send_on has met it as well
            producer.close()


def counters(path: Path) -> dict[str, int]:
    with bus.Admin(path) as admin:
        return dict(admin.status()["counters"])


def hot_directory(path: Path) -> Path:
    return Path(json.loads((path / "runtime.json").read_text())["hot_dir"])


def durable_files(path: Path) -> list[Path]:
    return sorted((path / "topics/t/0").glob("*.log"))


def hot_files(path: Path) -> list[Path]:
    """The hot files that hold a segment now, in the order of the log."""
    found = {}
    for file in hot_directory(path).glob("*-0.*.seg"):
        header = parse_header(file.read_bytes()[:12288]) if any(file.read_bytes()[:8]) else None
        if header is not None and header.base_offset <= RECORDS:
            found[header.number] = file
    return [found[number] for number in sorted(found)]


class Reader:
    """Reads all of the log, past whatever is missing; remembers which offsets it was told of."""

    def __init__(self, path: Path) -> None:
        self.consumer = bus.Consumer(bootstrap_servers=path, auto_offset_reset="earliest")
        self.consumer.assign([TP])
        self.offsets: list[int] = []
        self.missed: list[int] = []
        self.errors: list[str] = []

    def read(self, most: int = 500) -> None:
        """One poll; every record must be what was sent under its offset."""
        for record in self.consumer.poll(timeout_ms=200, max_records=most).get(TP, []):
            number = int(bytes(record.value[:20]).split()[1])
            assert bytes(record.value) == value(number)
            self.offsets.append(record.offset)

    def read_to(self, end: int) -> None:
        """All that can be read below `end`."""
        deadline = time.monotonic() + DEADLINE_S
        while self._next() < end:
            assert time.monotonic() < deadline, f"stuck at {self._next()}: {self.errors[-3:]}"
            try:
                self.read()
            except CorruptRecordError as damage:
                assert damage.offset == self._next(), damage
                assert damage.next_offset > damage.offset, damage
                self.missed += range(damage.offset, min(damage.next_offset, end))
                self.consumer.seek(TP, damage.next_offset)
            except BusError as error:  # while the bus moves
                self.errors.append(repr(error))
                time.sleep(0.05)

    def _next(self) -> int:
        return max([*self.offsets, *self.missed], default=-1) + 1

    def close(self) -> None:
        self.consumer.close()


def send_on(producer: bus.Producer, count: int, first: int) -> list[int]:
    """Sends until so many records are acknowledged; returns their offsets."""
    deadline = time.monotonic() + DEADLINE_S
    offsets: list[int] = []
    while len(offsets) < count:
        assert time.monotonic() < deadline, "nothing can be sent any more"
        try:
            future = producer.send("t", value(first + len(offsets)))
            offsets.append(future.get(timeout=10).offset)
        except BusError:  # while the bus moves
            time.sleep(0.05)
    return offsets


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
