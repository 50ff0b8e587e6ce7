"""A hot log without any process around it, to step a replica by hand."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from bus.directory import BusDirectory
from bus.durable import list_segments
from bus.hotdir import open_or_create
from bus.native.core import LAYOUT, Bells, Partition, ProducerCore, Route
from bus.recovery import scan_tail
from bus.replica import Follower
from bus.rings import Rings

MIB = 1 << 20
TOPIC_ID = 1


class Appender(ProducerCore):  # type: ignore[misc]
    """Appends to partitions that are given, without a client or a broker."""

    def __init__(self, control: Any, logs: Sequence[Partition]) -> None:
        self._logs = logs
        self._start(
            control,
            wait_durable=True,
            max_block_ns=0,
            sticky_bytes=MIB,
            key_serializer=None,
            value_serializer=None,
            partitioner=None,
        )

    def _route(self, topic: str) -> Route:
        return Route(topic, list(self._logs), 0)

    def _follow_move(self, error: Exception) -> bool:
        return False  # there is no broker that could move the bus


class HotLog:
    """One replicated partition with its hot directory and its durable directory."""

    def __init__(self, root: Path, *, number: int = 1, base_offset: int = 0, gap: int = 0) -> None:
        self.directory = BusDirectory.create(root / "bus")
        self.hot, _ = open_or_create(self.directory, root / "hot")
        self.durable = self.directory.topics_path / "t" / "0"
        self.durable.mkdir(parents=True, mode=0o700, exist_ok=True)
        Partition.create(
            self.hot.fd,
            bus_id=self.directory.bus_id,
            topic_id=TOPIC_ID,
            partition=0,
            flags=LAYOUT["BUS_FLAG_REPLICATED"],
            segment_bytes=MIB,
            hot_bytes=4 * MIB,
            max_message_bytes=MIB,
            offset_limit=1 << 40,
            log_start_offset=base_offset,
            base_offset=base_offset,
            previous_end=base_offset - gap,
            number=number,
        )
        self.log = self.attach()
        self.rings = Rings(self.hot.fd, epoch=1)
        self.log.attention = lambda _log, _need: None  # there is no broker to tell
        self._appender = Appender(self.hot.control, [self.log])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hot.remove()
        self.directory.close()

    def attach(self) -> Partition:
        """Another view of the partition, as another process would have it."""
        return Partition(self.hot.fd, TOPIC_ID, 0, Bells(self.hot.control), 0)

    def append(self, *values: bytes) -> int:
        """Appends records; returns the offset of the last one."""
        for value in values:
            future = self._appender.send("t", value)
        return int(future.offset)

    def roll(self) -> None:
        """Seals the active segment."""
        self.rings.feed(self.log)
        assert self.log.roll()

    def segment_file(self, number: int) -> Path:
        """The hot file that holds a segment now."""
        serial = next(slot.serial for slot in self.log.ring() if slot.number == number)
        return self.hot.path / f"{TOPIC_ID}-0.{serial}.seg"

    def follower(self) -> Follower:
        """A new replica, as after a restart."""
        fd = os.open(self.durable, os.O_RDONLY | os.O_DIRECTORY)
        return Follower(self.attach(), fd)

    def durable_ends(self) -> dict[int, tuple[int, bool]]:
        """Base offset of each durable file -> (the offset after its last record, sealed)."""
        fd = os.open(self.durable, os.O_RDONLY | os.O_DIRECTORY)
        try:
            tails = [scan_tail(fd, base) for base in list_segments(fd)]
        finally:
            os.close(fd)
        return {tail.base_offset: (tail.next_offset, tail.sealed) for tail in tails}


def drain(follower: Follower) -> None:
    """Lets the replica do all there is to do."""
    while follower.step():
        pass
