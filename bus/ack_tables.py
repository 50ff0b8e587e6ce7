"""The ack tables of share groups, acks-GROUP-TOPIC-PARTITION.ctl in the hot directory.

    groups/GROUP.acks    truth that outlives the hot directory: what was done, and how often tried

A table is made by the broker when the first member asks for it, and lives as long as the hot
directory. `GROUP.acks` says that the group is a share group, and what stood in its tables a while
ago: the committed offset alone would have everything behind a stuck record done again. It is kept
at a stop, and every few seconds while records are acknowledged, so after a loss of power what was
acknowledged since comes again.

What is in a table is the business of native/acks.c.
"""

import logging
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from bus import files
from bus.assignment import Partition
from bus.directory import BusDirectory
from bus.errors import BusError, CorruptSegmentError, DirectoryError, LockTimeoutError
from bus.hotdir import HotDirectory
from bus.incidents import Incident, Incidents
from bus.kept_acks import acks_name, believed, kept_mode, written
from bus.native.core import AckTable, Bells
from bus.native.tuples import Acknowledged
from bus.share_modes import Mode, check_mode
from bus.twofold import COPY_SUFFIX
from bus.unfinished import new_table

logger = logging.getLogger(__name__)

#: What was acknowledged longer ago outlives a loss of power, in seconds.
KEEP_PERIOD_S: Final = 5.0
#: The broker must not hang behind a member that was stopped while it held the mutex of a table.
LOCK_TIMEOUT_MS: Final = 50
_FILE: Final = re.compile(r"acks-(\d+)-(\d+)-(\d+)\.ctl")


def table_name(group_id: int, partition: Partition) -> str:
    """Name of an ack table in the hot directory."""
    return f"acks-{group_id}-{partition[0]}-{partition[1]}.ctl"


def open_table(hot_fd: int, name: str, bells: Bells, client: int) -> AckTable:
    """Attach to a table. Raises CorruptSegmentError if it is none, DirectoryError."""
    fd = files.open_file(name, dir_fd=hot_fd)
    try:
        size = os.fstat(fd).st_size
        if size != AckTable.bytes_needed():
            raise CorruptSegmentError(
                f"{files.path_of(fd)} has {size} bytes, not {AckTable.bytes_needed()}"
            )
        return AckTable(fd, bells=bells, client=client)
    finally:
        os.close(fd)


def note_taken_back(incidents: Incidents, group: str, taken: int, partition: Partition) -> None:
    """Tells that so many records of a partition come again."""
    incidents.note(
        Incident.RECORDS_TAKEN_BACK,
        "group %r: %d records of partition %d of topic %d come again; who had them is dead",
        group,
        taken,
        partition[1],
        partition[0],
    )


class GroupAcks:
    """The tables of one share group, as the broker has them."""

    def __init__(self, group: str, group_id: int) -> None:
        self.group = group
        self.group_id = group_id
        #: None: the next member says
        self.mode: Mode | None = None
        self.tables: dict[Partition, AckTable] = {}
        #: what was kept of tables that nobody has asked for since
        self.kept: dict[Partition, Acknowledged] = {}
        self._last: dict[Partition, Acknowledged] = {}
        self._figures: dict[Partition, dict[str, int]] = {}
        self._kept_s = 0.0

    def adopt(self, partition: Partition, table: AckTable) -> None:
        """Take over a table that a broker before this one has left.

        Raises CorruptSegmentError if it is of another mode.
        """
        mode: Mode = "keyed" if table.keyed else "queue"
        if self.mode not in (None, mode):
            raise CorruptSegmentError(f"{table.path} has mode {mode!r}, its group {self.mode!r}")
        self.mode = mode
        self.tables[partition] = table

    def is_due(self) -> bool:
        """True if something was acknowledged since, and it is time to keep it."""
        if time.monotonic() - self._kept_s < KEEP_PERIOD_S:
            return False
        return self._figures != self.figures()

    def figures(self) -> dict[Partition, dict[str, int]]:
        """Counters of each table."""
        return {partition: table.figures() for partition, table in self.tables.items()}

    def content(self) -> dict[str, Any]:
        """What is to be kept now. Of a table that cannot be read, what was read last is: whatever
        was acknowledged since comes again."""
        figures = self.figures()
        for partition, table in self.tables.items():
            try:
                self._last[partition] = table.snapshot(LOCK_TIMEOUT_MS)
            except (LockTimeoutError, CorruptSegmentError) as error:
                logger.error("group %r: %s", self.group, error)
        self._figures, self._kept_s = figures, time.monotonic()
        read = {at: one for at, one in self._last.items() if at in self.tables}
        return written(self.group, self.group_id, self.mode, self.kept | read)


class AckTables:
    """All share groups of one bus; the broker has one."""

    def __init__(self, directory: BusDirectory, hot: HotDirectory, bells: Bells) -> None:
        self._directory = directory
        self._hot = hot
        self._bells = bells
        self._groups: dict[str, GroupAcks] = {}

    def __contains__(self, group: str) -> bool:
        return group in self._groups

    def open(self, group: str, group_id: int) -> None:
        """At the start of a broker: what was kept of a group, and its tables in this directory."""
        relative = f"groups/{acks_name(group)}"
        if (
            not (self._directory.path / relative).exists()
            and not (self._directory.path / (relative + COPY_SUFFIX)).exists()
        ):
            return
        acks = self._groups[group] = GroupAcks(group, group_id)
        try:
            self._directory.mend_truth(relative)
            content = self._directory.read_truth(relative)
            if content is not None:
                acks.kept = believed(content, group, group_id)
                acks.mode = kept_mode(content)
        except (CorruptSegmentError, ValueError) as error:
            self._hot.incidents.note(
                Incident.METADATA_MENDED,
                "%s: %s; what share group %s had done behind its committed offset comes again",
                relative,
                error,
                group,
            )
        self._adopt(acks)

    def _adopt(self, acks: GroupAcks) -> None:
        """The tables that a broker before this one has left."""
        for name in sorted(os.listdir(self._hot.fd)):
            found = _FILE.fullmatch(name)
            if not found or int(found[1]) != acks.group_id:
                continue
            partition = int(found[2]), int(found[3])
            try:
                table = open_table(self._hot.fd, name, self._bells, -1)
                self._verify(table, acks.group_id, partition)
                acks.adopt(partition, table)
            except (CorruptSegmentError, DirectoryError) as error:
                self._hot.incidents.note(
                    Incident.METADATA_MENDED,
                    "%s; what share group %s has done there since it was kept comes again",
                    error,
                    acks.group,
                )
                self._drop(acks, partition)

    def _verify(self, table: AckTable, group_id: int, partition: Partition) -> None:
        """Raises CorruptSegmentError for a table that is not that one, or cannot be worked with."""
        wanted = (self._directory.bus_id, group_id, *partition)
        if table.identity != wanted:
            raise CorruptSegmentError(f"{table.path} is of {table.identity}, not of {wanted}")
        with suppress(LockTimeoutError):  # a stopped member holds it
            table.snapshot(LOCK_TIMEOUT_MS)

    def mode(self, group: str) -> Mode | None:
        """The mode of a share group; None: it has none yet, or is no share group."""
        acks = self._groups.get(group)
        return None if acks is None else acks.mode

    def ensure(
        self,
        group: str,
        group_id: int,
        mode: Mode,
        partition: Partition,
        committed: int | None,
        start: int,
    ) -> str:
        """Name of the table of a partition, made if there is none.

        It begins with what was kept, or at the committed offset, or at `start`. Raises
        InconsistentGroupProtocolError if the group has another mode.
        """
        acks = self._groups.setdefault(group, GroupAcks(group, group_id))
        check_mode(group, acks.mode, mode)
        if acks.mode is None:
            acks.mode = mode
            self._write(acks)  # from now on it is a share group
        name = table_name(group_id, partition)
        if partition not in acks.tables:
            begin = _agreed(acks.kept.get(partition), committed, start)
            self._create(name, group_id, mode == "keyed", partition, begin)
            acks.tables[partition] = open_table(self._hot.fd, name, self._bells, -1)
            acks.kept.pop(partition, None)
        return name

    def _create(
        self, name: str, group_id: int, keyed: bool, partition: Partition, begin: Acknowledged
    ) -> None:
        with new_table(self._hot.fd, name, AckTable.bytes_needed()) as fd:
            table = AckTable(fd)
            table.begin(self._directory.bus_id, group_id, *partition, begin.base, keyed)
            try:
                table.restore(*begin)
            except (ValueError, TypeError, OverflowError) as error:
                raise CorruptSegmentError(
                    f"what was kept of {name} contradicts itself: {error}; reset the offsets of the"
                    " group with: bus groups reset-offsets"
                ) from error

    def lows(self, group: str) -> dict[Partition, int]:
        """How far each partition of a group is done: what it has committed."""
        acks = self._groups.get(group)
        return {} if acks is None else {at: table.low for at, table in acks.tables.items()}

    def described(self, group: str) -> list[tuple[int, int, dict[str, int]]]:
        """(topic id, partition, figures) of each table of a group; none if it is no share group."""
        acks = self._groups.get(group)
        if acks is None:
            return []
        return [
            (*partition, {**table.figures(), "in_flight": _in_flight(table)})
            for partition, table in sorted(acks.tables.items())
        ]

    def reap(self, slot: int, generation: int) -> bool:
        """Takes back what a dead client had. False if a stopped process holds a table."""
        done = True
        for acks in self._groups.values():
            for partition, table in acks.tables.items():
                try:
                    taken = table.reap(slot, generation, LOCK_TIMEOUT_MS)
                except (LockTimeoutError, CorruptSegmentError) as error:
                    logger.error("%s", error)
                    done = False
                    continue
                if taken:
                    note_taken_back(self._hot.incidents, acks.group, taken, partition)
        return done

    def due(self) -> dict[str, dict[str, Any]]:
        """By group: what is to be written to its file now."""
        found = {}
        for group, acks in self._groups.items():
            try:
                if acks.is_due():
                    found[group] = acks.content()
            except BusError as error:
                logger.error("group %r: %s", group, error)
        return found

    def keep_all(self) -> None:
        """At a stop: everything is written, by this process. Raises BusError, OSError."""
        for acks in self._groups.values():
            self._write(acks)

    def _write(self, acks: GroupAcks) -> None:
        keep(self._directory, acks.group, acks.content())

    def forget(self, group: str) -> None:
        """The group was deleted, or its offsets are set anew: nothing of it counts any more."""
        acks = self._groups.pop(group, None)
        if acks is None:
            return
        self._directory.remove_truth(f"groups/{acks_name(group)}")
        for partition in list(acks.tables):
            self._drop(acks, partition)

    def forget_partitions(self, group: str, partitions: Iterable[Partition]) -> None:
        """Their offsets are set anew: the next members begin there."""
        acks = self._groups[group]
        for partition in partitions:
            acks.kept.pop(partition, None)
            if partition in acks.tables:
                self._drop(acks, partition)
        self._write(acks)

    def forget_topic(self, topic_id: int) -> None:
        """The topic was deleted."""
        for acks in self._groups.values():
            for partition in [at for at in acks.tables if at[0] == topic_id]:
                self._drop(acks, partition)
            for partition in [at for at in acks.kept if at[0] == topic_id]:
                del acks.kept[partition]

    def _drop(self, acks: GroupAcks, partition: Partition) -> None:
        table = acks.tables.pop(partition, None)
        try:
            if table is not None:
                table.mark_deleted(LOCK_TIMEOUT_MS)
        except (LockTimeoutError, CorruptSegmentError) as error:
            logger.error("%s", error)
        with suppress(FileNotFoundError):
            os.unlink(table_name(acks.group_id, partition), dir_fd=self._hot.fd)


def _in_flight(table: AckTable) -> int:
    return sum(table.held_by(client) for client, _ in table.claimants())


def keep(directory: BusDirectory, group: str, content: dict[str, Any]) -> None:
    """Write what is to outlive the hot directory. Raises DirectoryError, NoSpaceError."""
    directory.write_truth(f"groups/{acks_name(group)}", content)


def _agreed(kept: Acknowledged | None, committed: int | None, start: int) -> Acknowledged:
    """Where a new table begins: whatever is below the committed offset is done."""
    if committed is None:
        return Acknowledged(start, start, [], []) if kept is None else kept
    if kept is None or committed > kept.next:
        return Acknowledged(committed, committed, [], [])
    base = max(kept.base, committed)
    left = [one for one in kept.left if one.offset >= committed]
    done = [(max(first, base), end) for first, end in kept.done if end > base]
    parked = [(lane, max(offset, committed)) for lane, offset in kept.parked]
    return Acknowledged(
        base, kept.next, done, left, [(lane, offset) for lane, offset in parked if offset < base]
    )
