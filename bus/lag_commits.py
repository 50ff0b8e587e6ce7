"""The commits of the groups that producers wait for, as anybody may read them.

Read without the groups' mutexes: of an entry that is half written the copy before counts, which is
what a commit an instant earlier would have been.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from bus.assignment import Partition
from bus.directory import BusDirectory
from bus.errors import GroupIdNotFoundError
from bus.offset_entries import Committed
from bus.offsets import OffsetTable


class GroupCommit(NamedTuple):
    """A group that exists, and its commit for one partition, if it has one."""

    group: str
    group_id: int
    committed: Committed | None


class Commits:
    """Offset tables of some groups, kept open for as long as this lives."""

    def __init__(self, directory: BusDirectory) -> None:
        self._directory = directory
        self._tables: dict[str, tuple[OffsetTable, int]] = {}

    def __del__(self) -> None:
        for group in list(self._tables):
            self._forget(group)

    def of(self, groups: Iterable[str], partition: Partition) -> list[GroupCommit]:
        """What each group that exists has committed. Raises CorruptSegmentError if it is lost."""
        found = []
        for group in groups:
            table = self._table(group)
            if table is not None:
                committed = table.get([partition])[partition]
                found.append(GroupCommit(group, table.header.group_id, committed))
        return found

    def _table(self, group: str) -> OffsetTable | None:
        """The group's table; anew if it was deleted, None if there is none."""
        inode = self._inode(group)
        known = self._tables.get(group)
        if known is not None and known[1] == inode:
            return known[0]
        self._forget(group)
        if inode is None:
            return None
        with suppress(GroupIdNotFoundError):
            groups_fd = self._directory.open_groups()
            try:
                table = OffsetTable.open(groups_fd, group, writable=False)
            finally:
                os.close(groups_fd)
            self._tables[group] = (table, inode)
            return table
        return None

    def _inode(self, group: str) -> int | None:
        with suppress(FileNotFoundError):
            return os.stat(self._directory.offsets_path(group)).st_ino
        return None

    def _forget(self, group: str) -> None:
        known = self._tables.pop(group, None)
        if known is not None:
            known[0].close()
