"""groups/GROUP.offsets.copy: the commits of a group as they were a while ago.

    {"group", "group_id", "commits": [[topic id, partition, offset], ...], "crc"}

The broker writes it when a partition gets its first commit or loses its last one, every
COPY_PERIOD_S while the group commits, and at a stop. It says which commits there must be: an entry
that was zeroed looks as if it had never been used. A commit that is lost in the table goes on from
here, so records are read again instead of being skipped, or all of them from the start.
"""

import os
import time
from collections.abc import Set
from typing import Any, Final, NamedTuple

from bus import files, twofold
from bus.assignment import Partition
from bus.directory import BusDirectory, offsets_name
from bus.errors import CorruptSegmentError
from bus.offset_entries import Committed
from bus.offsets import OffsetTable

#: A commit that is restored from here is at most so old, in seconds.
COPY_PERIOD_S: Final = 30.0
#: More commits than these find no room in a small file; the older ones of them are kept.
COMMITS_MAX: Final = 16384


class CopiedCommits(NamedTuple):
    """What a copy says."""

    group: str
    group_id: int
    commits: dict[Partition, int]


def copy_name(file: str) -> str:
    """The copy of an offset table in `file`."""
    return file + twofold.COPY_SUFFIX


def read_copy(directory: BusDirectory, groups_fd: int, file: str) -> CopiedCommits | None:
    """What the copy of offset table `file` says, None if there is none.

    Raises CorruptSegmentError if it cannot be believed, and UnsafeDirectoryError.
    """
    name = copy_name(file)
    data = files.read_bytes(groups_fd, name)
    if data is None:
        return None
    try:
        content = twofold.decode(data, directory.seal(f"groups/{name}"))
        commits = {(topic, number): offset for topic, number, offset in content["commits"]}
        return CopiedCommits(content["group"], content["group_id"], commits)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        path = directory.groups_path / name
        raise CorruptSegmentError(f"{path} cannot be believed: {error}") from error


class OffsetCopies:
    """Keeps the copies of all groups of a bus up to date. The broker has one."""

    def __init__(self, directory: BusDirectory) -> None:
        self._directory = directory
        #: by group: the partitions in its copy, and when it was written, on the monotonic clock
        self._kept: dict[str, tuple[frozenset[Partition], float]] = {}

    def keep(self, table: OffsetTable, *, at_once: bool = False) -> None:
        """Write the copy of a table that has changed, if that is due. Raises BusError, OSError."""
        header, commits = table.header, table.read()
        kept = self._kept.get(header.name)
        if kept is not None and not at_once and self._is_fresh(*kept, commits.keys()):
            return
        groups_fd = self._directory.open_groups()
        try:
            self._write(groups_fd, header.name, header.group_id, commits)
        finally:
            os.close(groups_fd)
        self._kept[header.name] = (frozenset(commits), time.monotonic())

    def _is_fresh(
        self, partitions: frozenset[Partition], at_s: float, present: Set[Partition]
    ) -> bool:
        return partitions == present and time.monotonic() - at_s < COPY_PERIOD_S

    def _write(
        self, groups_fd: int, group: str, group_id: int, commits: dict[Partition, Committed]
    ) -> None:
        name = copy_name(offsets_name(group))
        rows = [[*one, commits[one].offset] for one in sorted(commits)[:COMMITS_MAX]]
        content: dict[str, Any] = {"group": group, "group_id": group_id, "commits": rows}
        data = twofold.encode(content, self._directory.seal(f"groups/{name}"))
        files.write_atomic(groups_fd, name, data)

    def forget(self, groups_fd: int, group: str) -> None:
        """Remove the copy of a deleted group, before its table: alone it would revive it."""
        self._kept.pop(group, None)
        twofold.unlink(groups_fd, copy_name(offsets_name(group)))
