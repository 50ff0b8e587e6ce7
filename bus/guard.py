"""Looks for shared pages that no longer say what the broker knows.

All clients of a bus can write to bus.ctl and to the control pages. What the broker alone decides
(identities, settings, limits, who is connected) it also knows from elsewhere, so a stray write
shows; and a canary behind each page shows who wrote (`bus.canary`). A few pages are looked at in
each round, all of them in turn, so that a thousand partitions cost no more than one.

Only looks and tells; what is done about it is `bus.supervisor`'s. Words that clients work out from
the groups' commits are no reason to leave: they are closed, so that the next one looks (lag_watch).
"""

import os
import struct
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final, NamedTuple

from bus import canary, files, lag_watch
from bus.adoption import check_lock
from bus.errors import CorruptSegmentError, DirectoryError
from bus.fields import Fields
from bus.hot_place import CONTROL_FILE
from bus.hotdir import HotDirectory
from bus.inventory import Inventory
from bus.native.core import LAYOUT
from bus.open_partition import OpenPartition
from bus.registry import Registry
from bus.rings import control_file_name

#: Control pages looked at in one round.
PAGES_A_ROUND: Final = 64
#: a look that is due in so many seconds is not put off to the broker's next tick
SLACK_S: Final = 0.5

_PAGE: Final = Fields(
    "bus_partition",
    {
        "magic": "Q",
        "version": "I",
        "bytes": "I",
        "bus_id": "Q",
        "topic_id": "Q",
        "partition": "I",
        "flags": "I",
        "segment_bytes": "Q",
        "hot_bytes": "Q",
        "max_message_bytes": "Q",
        "offset_limit": "Q",
        "log_start_offset": "Q",
    },
)
_PAGE_HEAD_BYTES: Final = LAYOUT["bus_partition.lock"]
_PAGE_BYTES: Final = LAYOUT["sizeof.bus_partition"]
_CONTROL_BYTES: Final = LAYOUT["sizeof.bus_control"]
_BROKER_WORDS: Final = {
    "epoch": LAYOUT["bus_control.epoch"],
    "broker_pid": LAYOUT["bus_control.broker_pid"],
}


class Spoiled(NamedTuple):
    """A file in the hot directory that somebody wrote to who may not, and what is wrong in it."""

    file: str
    what: str
    #: processes that wrote behind the page, where nobody may: proven
    culprits: tuple[int, ...]
    #: processes that have the file mapped for writing
    writers: tuple[int, ...]


class Guard:
    """Compares the shared pages of one hot directory with what its broker knows."""

    def __init__(
        self,
        hot: HotDirectory,
        inventory: Inventory,
        registry: Registry,
        epoch: int,
        pause_s: float,
    ) -> None:
        """`pause_s`: between two looks, in seconds."""
        self._hot = hot
        self._inventory = inventory
        self._registry = registry
        self._epoch = epoch
        self._identity = bytes(hot.control.view[: _identity_bytes()])
        self._inode = os.stat(CONTROL_FILE, dir_fd=hot.fd).st_ino
        self._turn = 0
        self._pause_s = pause_s
        self._next_s = 0.0

    def is_due(self, now: float) -> bool:
        """True, once, when the pause since the last time is over. `now` is monotonic."""
        if now < self._next_s:
            return False
        self._next_s = now + self._pause_s - SLACK_S
        return True

    def look(self, *, everywhere: bool = False) -> list[Spoiled]:
        """What is wrong in bus.ctl and in the next few control pages, or in all of them."""
        found = list(
            self._spoiled(CONTROL_FILE, _CONTROL_BYTES, self._inode, self._wrong_in_control())
        )
        for partition in self._next_pages(everywhere):
            name = control_file_name(partition.topic.id, partition.number)
            inode, wrong = partition.log.inode, wrong_in_page(partition)
            found += self._spoiled(name, _PAGE_BYTES, inode, wrong)
            lag_watch.mend(partition, self._hot.incidents)
        return found

    def _next_pages(self, everywhere: bool) -> Iterator[OpenPartition]:
        pages = list(self._inventory.partitions())
        if everywhere or len(pages) <= PAGES_A_ROUND:
            return iter(pages)
        start, self._turn = self._turn, (self._turn + PAGES_A_ROUND) % len(pages)
        return islice(cycle(pages), start, start + PAGES_A_ROUND)

    def _wrong_in_control(self) -> Iterator[str]:
        control = self._hot.control
        if bytes(control.view[: len(self._identity)]) != self._identity:
            yield "its identity was overwritten"
        if control.load_acquire(_BROKER_WORDS["epoch"]) != self._epoch:
            yield "the epoch is not that of the broker"
        if control.load32_acquire(_BROKER_WORDS["broker_pid"]) != os.getpid():
            yield "the broker's pid is another one"
        for slot in self._registry.overwritten():
            yield f"client slot {slot} is not what its client said"

    def _spoiled(
        self, file: str, table_bytes: int, inode: int, wrong: Iterator[str]
    ) -> Iterator[Spoiled]:
        what: list[str] = []
        try:
            what += wrong
        except CorruptSegmentError as error:  # it was cut: all of it reads as zeros
            what.append(str(error))
        try:
            fd = files.open_file(file, os.O_RDONLY, dir_fd=self._hot.fd)
        except DirectoryError as error:
            yield Spoiled(file, str(error), (), ())
            return
        try:
            if os.fstat(fd).st_ino != inode:
                what.append("another file has its name: who attaches now is in that one")
            touched = canary.is_touched(fd, table_bytes)
            if touched:
                what.append("somebody wrote behind it, where nobody may")
            if what:
                culprits = canary.culprits(fd, table_bytes) if touched else []
                writers = canary.writers(fd)
                yield Spoiled(file, "; ".join(what), tuple(culprits), tuple(writers))
        finally:
            os.close(fd)


def _identity_bytes() -> int:
    return LAYOUT["bus_control.pid_namespace"] + struct.calcsize("<Q")


def wrong_in_page(partition: OpenPartition) -> Iterator[str]:
    """What a control page says that the broker did not write there. CorruptSegmentError: it has no
    lock any more."""
    log, topic, state = partition.log, partition.topic, partition.state
    known = {
        "magic": LAYOUT["BUS_MAGIC_PARTITION"],
        "version": LAYOUT["BUS_LAYOUT_VERSION"],
        "bytes": _PAGE_BYTES,
        "topic_id": topic.id,
        "partition": partition.number,
        "flags": topic.flags,
        "segment_bytes": topic.config.segment_bytes,
        "hot_bytes": topic.config.hot_bytes,
        "max_message_bytes": topic.config.max_message_bytes,
        "offset_limit": state.offset_limit,
        "log_start_offset": state.log_start_offset,
    }
    found = _PAGE.read(log.peek(0, _PAGE_HEAD_BYTES))
    for name, value in known.items():
        if found[name] != value:
            yield f"{name} is {found[name]:#x}, the broker wrote {value:#x}"
    yield from _wrong_in_tail(partition)
    check_lock(partition)


def _wrong_in_tail(partition: OpenPartition) -> Iterator[str]:
    """The tail must lie in a segment of the ring; it may move while we look."""
    while True:
        tail = partition.log.tail
        sizes = {slot.number: slot.bytes for slot in partition.log.ring()}
        if partition.log.tail == tail:
            break
    number, position = tail
    if not LAYOUT["BUS_DATA_START"] <= position <= sizes.get(number, 0):
        yield f"the tail is at {position} in segment {number}, which is not in the ring"
