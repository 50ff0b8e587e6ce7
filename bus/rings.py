"""The hot files of a partition: spares ahead of need, and the removal of what is left over.

The broker makes a file (name, fallocate) before it enters it into the ring, and takes it out of
the ring before it unlinks it. Dying between the two leaves a file that no ring names; `sweep`
finds it when the next broker adopts the bus.
"""

import logging
import os
import re
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from bus import files
from bus.errors import BusError, CorruptSegmentError, NoSpaceError
from bus.native.core import Partition

logger = logging.getLogger(__name__)

#: A spare is made when the active segment is this full: 1/2 leaves the time to make one.
SPARE_FRACTION: Final = 2

#: Serials of one broker's life: its epoch stands above these bits.
SERIAL_BITS: Final = 32

_SEGMENT_FILE = re.compile(r"(\d+)-(\d+)\.(\d+)\.seg")
#: A control page, or one whose maker died before it could name it.
_CONTROL_FILE = re.compile(r"(\d+)-(\d+)\.ctl(?:\.new)?")


def segment_file_name(topic_id: int, partition: int, serial: int) -> str:
    """Name of a hot segment file, relative to the hot directory."""
    return f"{topic_id}-{partition}.{serial}.seg"


def control_file_name(topic_id: int, partition: int) -> str:
    """Name of a partition's control page, relative to the hot directory."""
    return f"{topic_id}-{partition}.ctl"


def is_filling(log: Partition) -> bool:
    """True when the active segment is so full that a spare should stand ready."""
    number, position = log.tail
    for slot in log.ring():
        if slot.number == number:
            return position * SPARE_FRACTION >= slot.bytes
    return True


class Rings:
    """Makes and removes hot files in one hot directory."""

    def __init__(self, hot_fd: int, epoch: int) -> None:
        self._hot_fd = hot_fd
        # A serial must never come again while the hot directory lives: a client tells by it
        # whether what it has mapped is still the file in the ring. The epoch makes it so.
        self._next_serial = epoch << SERIAL_BITS
        self._full = False
        #: of which partitions a broker before this one has left files
        self._inherited = {key for key in map(_key, os.listdir(hot_fd)) if key is not None}
        #: hot files made, and tries that failed because the hot filesystem was full
        self.spares_made = 0
        self.spares_failed = 0

    def new_file(self, topic_id: int, partition: int) -> tuple[int, str]:
        """A serial that was never given out, and the name of the hot file with it."""
        serial = self._next_serial
        self._next_serial += 1
        return serial, segment_file_name(topic_id, partition, serial)

    def has_page(self, topic_id: int, partition: int) -> bool:
        """True if the partition has a control page.

        Raises CorruptSegmentError if it has hot segments without one: they hold records. (A broker
        that died while it made the page has left it under its temporary name.)
        """
        name = control_file_name(topic_id, partition)
        names = os.listdir(self._hot_fd)
        if name in names:
            return True
        found = [one for one in map(_SEGMENT_FILE.fullmatch, names) if one]
        if f"{name}.new" not in names and (topic_id, partition) in {
            (int(one[1]), int(one[2])) for one in found
        }:
            raise CorruptSegmentError(f"{files.path_of(self._hot_fd)}/{name} is gone")
        return False

    def feed(self, log: Partition, need: int = 0, *, ahead: bool = True) -> int:
        """Makes the spare that the partition wants, takes out what is useless; count made.

        `need` is the size in bytes that a producer waits for; 0: just the next spare. A full
        hot filesystem is reported once, and tried again at the next call. With `ahead` false
        the partition is far from its next segment: it gets a file only for a useless one.
        """
        removed = self._remove_surplus(log, need)
        if not (need or ahead or removed):
            return 0
        size = log.spare_wanted(need)
        return int(size > 0 and self._add(log, size))

    def _remove_surplus(self, log: Partition, need: int) -> int:
        """Free files that are too small for what is needed make room for one that is not."""
        serials = log.surplus(need)
        for serial in serials:
            name = segment_file_name(log.topic_id, log.partition, serial)
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._hot_fd)
        return len(serials)

    def _add(self, log: Partition, size: int) -> bool:
        serial, name = self.new_file(log.topic_id, log.partition)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        fd = -1
        try:
            fd = files.open_file(name, flags, dir_fd=self._hot_fd)
            files.allocate(fd, size)
        except NoSpaceError as error:
            with suppress(FileNotFoundError):  # there may have been no inode for it
                os.unlink(name, dir_fd=self._hot_fd)
            self.spares_failed += 1
            if not self._full:
                logger.error("%s; producers of this partition wait until there is room", error)
            self._full = True
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        self._full = False
        try:
            log.add_spare(serial, size)
        except BusError:
            os.unlink(name, dir_fd=self._hot_fd)  # in no ring: nobody can have it open
            raise
        self.spares_made += 1
        return True

    def remove(self, topic_id: int, partition: int) -> None:
        """Unlinks every hot file of a partition. Those who have them mapped keep the bytes.

        The control page goes first: what a death in between leaves is then adopted by nobody.
        """
        prefix = f"{topic_id}-{partition}."
        names = [name for name in os.listdir(self._hot_fd) if name.startswith(prefix)]
        for name in sorted(names, key=lambda name: name.endswith(".seg")):
            if _key(name) is not None:
                os.unlink(name, dir_fd=self._hot_fd)

    def remove_inherited(self, topic_id: int, partition: int) -> None:
        """The same for what a dead broker may have left: one look at its files was enough."""
        if (topic_id, partition) in self._inherited:
            self.remove(topic_id, partition)

    def sweep(self, known: dict[tuple[int, int], Collection[int]]) -> int:
        """Unlinks hot files that no ring names; returns how many.

        `known` maps (topic id, partition) to the serials in its ring.
        """
        swept = 0
        for name in os.listdir(self._hot_fd):
            segment = _SEGMENT_FILE.fullmatch(name)
            control = _CONTROL_FILE.fullmatch(name)
            match = segment or control
            if match is None:
                continue
            key = int(match[1]), int(match[2])
            if key in known and (name.endswith(".ctl") or _serial(segment) in known[key]):
                continue
            os.unlink(name, dir_fd=self._hot_fd)
            swept += 1
        return swept


def _key(name: str) -> tuple[int, int] | None:
    """The topic's id and the partition that a hot file belongs to; None: it is another file."""
    match = _SEGMENT_FILE.fullmatch(name) or _CONTROL_FILE.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def _serial(segment: re.Match[str] | None) -> int:
    return int(segment[3]) if segment else -1
