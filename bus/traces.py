"""What the other files of a bus say about one that is lost: ids, numbers, names.

Segments and offset tables carry the id of their bus and of their topic or group, under checksums.
Only read when a small file of truth is gone together with its copy.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bus import files
from bus.errors import BusError

if TYPE_CHECKING:
    from bus.native.core import SegmentHeader

_SEGMENTS: Final = "topics/*/*/*.log"
_OFFSETS: Final = "groups/*.offsets"
_HOT_FILE: Final = re.compile(r"(?:group-)?(\d+)(?:-\d+)?(?:\.(\d+))?\.(?:ctl|seg)")
_ACKS_FILE: Final = re.compile(r"acks-(\d+)-(\d+)-\d+\.ctl(?:\.new)?")
#: The serial of a hot file has the epoch of its broker above these bits.
_SERIAL_BITS: Final = 32


def are_there(fd: int) -> bool:
    """True if the directory holds files of a bus, bus.json aside."""
    names = set(os.listdir(fd))
    if "epoch" in names or "next_id" in names:
        return True
    return any(_entries(fd, name) for name in ("topics", "groups") if name in names)


def _entries(fd: int, name: str) -> list[str]:
    try:
        below = files.open_directory(name, dir_fd=fd)
    except BusError:
        return [name]  # something is there that must be looked at
    try:
        return os.listdir(below)
    finally:
        os.close(below)


def bus_ids(path: Path) -> set[str]:
    """The bus ids that segments and offset tables carry, as hexadecimal digits."""
    found = {header.bus_id for header in _headers(path, _SEGMENTS)}
    found |= {table[0] for table in tables(path)}
    return {f"{bus_id:016x}" for bus_id in found}


def topic_ids(path: Path, name: str) -> set[int]:
    """The ids that the segments in a topic's directory carry."""
    return {header.topic_id for header in _headers(path, f"topics/{name}/*/*.log")}


def highest_id(path: Path, hot_path: Path | None) -> int:
    """The highest id of a topic or group that anything remembers, deleted ones included."""
    from bus.catalog import Catalog
    from bus.directory import BusDirectory

    found = [0, *(header.topic_id for header in _headers(path, _SEGMENTS))]
    with BusDirectory(path, files.open_directory(path)) as directory, suppress(BusError):
        found += [topic.id for topic in Catalog(directory).topics()]
    for _, group_id, _ in tables(path):
        found.append(group_id)
    found += [topic for topic, _ in highest_commits(path)]
    found += [one for name in _hot_names(hot_path) for one in _ids_of_acks(name)]
    return max(found + [topic for topic, _ in _hot_numbers(hot_path)])


def highest_commits(path: Path) -> dict[tuple[int, int], int]:
    """The highest offset that any group has committed, by topic id and partition."""
    from bus.offsets import OffsetTable

    found: dict[tuple[int, int], int] = {}
    for _, _, file in tables(path):
        table = OffsetTable.open_path(file)
        for partition, committed in table.read().items():
            found[partition] = max(found.get(partition, 0), committed.offset)
        table.close()
    return found


def highest_epoch(hot_path: Path | None) -> int:
    """The highest epoch of a broker that the hot directory remembers."""
    return max((serial >> _SERIAL_BITS for _, serial in _hot_numbers(hot_path)), default=0)


def _hot_names(hot_path: Path | None) -> list[str]:
    return os.listdir(hot_path) if hot_path is not None and hot_path.is_dir() else []


def _ids_of_acks(name: str) -> list[int]:
    """The ids of group and topic in the name of an ack table."""
    match = _ACKS_FILE.fullmatch(name)
    return [int(match[1]), int(match[2])] if match else []


def _hot_numbers(hot_path: Path | None) -> Iterator[tuple[int, int]]:
    """(id, serial) of every file in the hot directory; a file without serial has 0."""
    for name in _hot_names(hot_path):
        match = _HOT_FILE.fullmatch(name)
        if match:
            yield int(match[1]), int(match[2] or 0)


def _headers(path: Path, pattern: str) -> Iterator["SegmentHeader"]:
    """The headers of durable segments, as far as they verify."""
    from bus.durable import DATA_START
    from bus.native.core import parse_header

    for file in sorted(path.glob(pattern)):
        with suppress(BusError, OSError):
            fd = files.open_own(file, os.O_RDONLY)
            try:
                yield parse_header(os.pread(fd, DATA_START, 0))
            finally:
                os.close(fd)


def tables(path: Path) -> Iterator[tuple[int, int, Path]]:
    """(bus id, group id, file) of the offset tables whose headers verify."""
    from bus.offsets import read_offsets_header

    for file in sorted(path.glob(_OFFSETS)):
        with suppress(BusError, OSError):
            fd = files.open_own(file, os.O_RDONLY)
            try:
                header = read_offsets_header(fd)
            finally:
                os.close(fd)
            yield header.bus_id, header.group_id, file
