"""The files of consumer groups, as the broker makes, syncs and deletes them.

A group exists if and only if its offset table does (truth, in the bus directory); the members
table in the hot directory is made anew with the hot directory. What is in the tables is the
business of `bus.offsets` and `bus.members`.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from bus import files
from bus.ack_tables import AckTables
from bus.assignment import Partition
from bus.catalog import Catalog
from bus.config import GROUPS_MAX
from bus.directory import BusDirectory, offsets_name
from bus.errors import (
    BusError,
    CorruptSegmentError,
    GroupIdNotFoundError,
    InvalidGroupIdError,
    LockTimeoutError,
)
from bus.group_admin import (
    GroupDescription,
    check_empty,
    describe_group,
    describe_unlocked,
    mark_deleted,
    remove_client,
)
from bus.group_ids import check_group_id
from bus.hotdir import HotDirectory
from bus.incidents import Incident
from bus.members import MemberTable
from bus.members_file import create_members_file, members_file_name
from bus.native.core import Bells
from bus.offset_copies import OffsetCopies
from bus.offsets import (
    OffsetTable,
    create_offsets_file,
    read_offsets_header,
    replace_offsets_file,
)
from bus.share_modes import Mode
from bus.syncer import Syncer
from bus.unfinished import remove_unfinished

logger = logging.getLogger(__name__)

SUFFIX: Final = ".offsets"
#: A file's time of change is this coarse at worst: within it, a second change may not show.
CLOCK_TICK_NS: Final = 20_000_000
#: The broker must not hang behind a member that was stopped while it held its group's lock.
LOCK_TIMEOUT_MS: Final = 50


@dataclass(eq=False)
class OpenGroup:
    """A group with its two tables open."""

    id: int
    name: str
    members: MemberTable
    offsets: OffsetTable
    #: time of the last change that is on disk, ns
    synced_ns: int = 0
    #: a sync failed, perhaps under another broker, and what it was for was not written again since
    in_doubt: bool = False


class Groups:
    """All consumer groups of one bus."""

    def __init__(
        self, directory: BusDirectory, hot: HotDirectory, bells: Bells, catalog: Catalog
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._bells = bells
        self._catalog = catalog
        self._copies = OffsetCopies(directory)
        self.acks = AckTables(directory, hot, bells)
        self._groups: dict[str, OpenGroup] = {}
        #: waits for the disk in another process; None: this one waits
        self.syncer: Syncer | None = None

    def open_all(self, *, fence: bool) -> None:
        """Opens every group on disk. One that cannot be read is named and left out.

        `fence`: members may live that hold the mutex of a table which is not used any more.
        """
        remove_unfinished(self._hot.fd)
        groups_fd = self._directory.open_groups()
        try:
            files.settle(groups_fd)
            for file in sorted(os.listdir(groups_fd)):
                if not file.endswith(SUFFIX):
                    continue
                try:
                    self._open_file(groups_fd, file, fence)
                except BusError as error:
                    logger.error("%s: %s; its group cannot be used", file, error)
        finally:
            os.close(groups_fd)

    def _open_file(self, groups_fd: int, file: str, fence: bool) -> None:
        fd = files.open_file(file, dir_fd=groups_fd)
        try:
            header = read_offsets_header(fd)
        finally:
            os.close(fd)
        if header.bus_id != self._directory.bus_id:
            raise CorruptSegmentError("it belongs to another bus")
        # A sync may have failed under the broker before, and only that one knew: its pages count as
        # clean, and a sync of ours would prove nothing.
        self._open(groups_fd, header.group_id, header.name, fence=fence).in_doubt = True

    def _open(self, groups_fd: int, group_id: int, name: str, *, fence: bool = False) -> OpenGroup:
        if name in self._directory.refused:
            raise CorruptSegmentError(self._directory.refused[name])
        members = None
        if members_file_name(group_id) in os.listdir(self._hot.fd):
            members = self._attach(group_id, name)
        if members is None or not members.is_usable:
            if fence:  # who was stopped in a mutex that nobody else takes has one commit to make
                replace_offsets_file(groups_fd, name)
            create_members_file(self._hot.fd, bus_id=self._directory.bus_id, group_id=group_id)
            members = self._attach(group_id, name)
        members.revive()
        offsets = OffsetTable.open(groups_fd, name)
        group = self._groups[name] = OpenGroup(group_id, name, members, offsets)
        self.acks.open(name, group_id)
        if name in self.acks:
            members.mark_shared(self.acks.mode(name))
        return group

    def _attach(self, group_id: int, name: str) -> MemberTable:
        return MemberTable.open(
            self._hot.fd,
            group_id,
            lock_timeout_ms=LOCK_TIMEOUT_MS,
            incidents=self._hot.incidents,
            waits_once=True,
            name=name,
        )

    # --------------------------------------------------------------------------------- asking

    def __iter__(self) -> Iterator[OpenGroup]:
        return iter([self._groups[name] for name in sorted(self._groups)])

    def __contains__(self, name: object) -> bool:
        return name in self._groups

    def get(self, name: str) -> OpenGroup:
        """The group of that name. Raises GroupIdNotFoundError."""
        found = self._groups.get(check_group_id(name))
        if found is not None:
            return found
        raise GroupIdNotFoundError(
            f"group {name!r} does not exist; a consumer's first join makes it"
        )

    def summaries(self) -> list[dict[str, object]]:
        """Every group with its state and the number of its members."""
        summaries: list[dict[str, object]] = []
        for group in self:
            description = _described(group)
            summaries.append(
                {
                    "name": group.name,
                    "id": group.id,
                    "members": len(description.members),
                    "state": description.state,
                    "kind": "share" if group.name in self.acks else "consumer",
                }
            )
        return summaries

    # ------------------------------------------------------------------------------- changing

    def ensure(self, name: str) -> OpenGroup:
        """The group of that name, made if there is none."""
        if check_group_id(name) in self._groups:
            return self._groups[name]
        if len(self._groups) >= GROUPS_MAX:
            raise InvalidGroupIdError(
                f"there are {GROUPS_MAX} groups already; delete some with: bus groups delete"
            )
        if name in self._directory.refused:
            raise CorruptSegmentError(self._directory.refused[name])
        group_id = self._catalog.next_id()
        groups_fd = self._directory.open_groups()
        try:
            create_offsets_file(groups_fd, name, bus_id=self._directory.bus_id, group_id=group_id)
            return self._open(groups_fd, group_id, name)
        finally:
            os.close(groups_fd)

    def share(self, name: str, mode: Mode, partition: Partition, start: int) -> str:
        """Name of the ack table of one partition for a share group, made if there is none."""
        group = self.get(name)
        known = group.offsets.get([partition])[partition]
        committed = None if known is None else known.offset
        return self.acks.ensure(name, group.id, mode, partition, committed, start)

    def forget_shares(
        self, name: str, partitions: Iterable[Partition], is_dead: Callable[[int, int], bool]
    ) -> None:
        """An empty share group is to begin these partitions elsewhere. NonEmptyGroupError."""
        group = self.get(name)
        if name in self.acks:
            with group.members.locked():
                check_empty(group.members, name, is_dead, "reset its offsets")
            self.acks.forget_partitions(name, partitions)

    def delete(self, name: str, is_dead: Callable[[int, int], bool]) -> None:
        """Removes a group with its offsets. Raises NonEmptyGroupError if somebody is in it.

        After an OSError the group is there still, or again, and may be deleted once more.
        """
        group = self.get(name)
        mark_deleted(group.members, is_dead, group=name)
        try:
            self._remove_files(name)
        except (BusError, OSError):
            group.members.revive()
            raise
        group.offsets.close()
        del self._groups[name]  # whatever is left of it now, it exists no more
        try:
            with suppress(FileNotFoundError):
                os.unlink(members_file_name(group.id), dir_fd=self._hot.fd)
        except OSError as error:
            logger.error("%s; it goes with the hot directory", error)

    def _remove_files(self, name: str) -> None:
        if self.syncer is not None:
            self.syncer.finish()  # or it might write the copy of a group that is gone
        self.acks.forget(name)
        groups_fd = self._directory.open_groups()
        try:
            self._copies.forget(groups_fd, name)
            with suppress(FileNotFoundError):  # it went, and the sync behind it failed
                os.unlink(offsets_name(name), dir_fd=groups_fd)
            os.fsync(groups_fd)
        finally:
            os.close(groups_fd)

    def reap(self, slot: int, generation: int) -> bool:
        """Takes a dead client out of every group.

        False if a stopped process holds the mutex of a group where it may have something left.
        """
        done = self.acks.reap(slot, generation)
        for group in self:
            try:
                remove_client(group.members, self._bells, slot, generation)
            except LockTimeoutError:
                done = False  # counted and logged by the members table
        return done

    def fence(self) -> bool:
        """In a stop: whoever committed before it was announced is done when this returns.

        False if a stopped process holds a group's mutex: it may still write one commit, and must
        not do so beside the members of a later bus, whose table has another mutex. A mutex that was
        written over lets nobody in any more; its table goes with the others.
        """
        done = True
        for group in self:
            try:
                with group.members.locked():
                    continue
            except LockTimeoutError as error:
                logger.error("%s", error)
                done = False
            except CorruptSegmentError as error:
                logger.error("group %r: %s", group.name, error)
        return done

    def sync_nowait(self) -> None:
        """Has committed offsets brought to the disk, by the syncer, unless it waits for it still.

        An error is counted and the next round tries again: a commit promises the page cache only.
        """
        syncer = self.syncer
        if syncer is None or syncer.is_busy:
            return
        changed: dict[str, int] = {}
        for group in self:
            with self._or_later(group):
                if (changed_ns := self._changed_ns(group)) is not None:
                    self._write_again(group)
                    changed[group.name] = changed_ns
        acks = self.acks.due()
        if changed or acks:
            try:
                syncer.ask([*changed], partial(self._synced, changed), acks)
            except OSError as error:
                self._note(f"{len(changed)} groups", error)

    def _synced(self, changed: Mapping[str, int], outcome: Mapping[str, str | None]) -> None:
        for name, error in outcome.items():
            group = self._groups.get(name)
            if group is None:
                continue
            if error is not None:
                group.in_doubt = True
                self._note(f"group {name}", error)
            elif name in changed:  # else only its acknowledgements were written
                self._is_on_disk(group, changed[name])

    def sync(self, *, last: bool = False) -> None:
        """The same in this process, which waits for the disk.

        `last`: the bus stops, so the copies of all offsets are written as well.
        """
        self.release()
        for group in self:
            with self._or_later(group):
                if (changed_ns := self._changed_ns(group)) is not None:
                    self._write_again(group)
                    try:
                        group.offsets.sync()
                    except BusError:
                        group.in_doubt = True
                        raise
                    self._copies.keep(group.offsets)
                    self._is_on_disk(group, changed_ns)
                if last:
                    self._commit_lows(group)
                    self._copies.keep(group.offsets, at_once=True)
        if last:
            self.acks.keep_all()

    def _commit_lows(self, group: OpenGroup) -> None:
        """What a share group has done is committed by its members now and then, and at the end."""
        ahead = group.offsets.ahead(self.acks.lows(group.name))
        if ahead:
            with group.members.locked():
                group.offsets.put(
                    ahead, generation=group.members.generation, timestamp_ns=time.time_ns()
                )
            group.offsets.sync()

    def release(self) -> None:
        """Lets the syncer go, once it has done what it was asked for."""
        if self.syncer is not None:
            self.syncer.finish()
            self.syncer.close()
            self.syncer = None

    @contextmanager
    def _or_later(self, group: OpenGroup) -> Iterator[None]:
        try:
            yield
        except (OSError, BusError) as error:
            self._note(f"group {group.name}", error)

    def _note(self, what: str, error: object) -> None:
        self._hot.incidents.note(
            Incident.CALL_RETRIED, "the offsets of %s could not be synced: %s", what, error
        )

    def _changed_ns(self, group: OpenGroup) -> int | None:
        """When the offsets changed, if that is not known to be on disk."""
        changed_ns = os.stat(self._directory.offsets_path(group.name)).st_mtime_ns
        return None if changed_ns == group.synced_ns and not group.in_doubt else changed_ns

    def _write_again(self, group: OpenGroup) -> None:
        """After a sync that failed the pages count as clean, and another one would prove nothing.

        So all of them are written again first, from the page cache, while nobody commits.
        """
        if group.in_doubt:
            with group.members.locked():
                group.offsets.rewrite()
            group.in_doubt = False

    def _is_on_disk(self, group: OpenGroup, changed_ns: int) -> None:
        if changed_ns < time.time_ns() - CLOCK_TICK_NS:
            group.synced_ns = changed_ns


def _described(group: OpenGroup) -> GroupDescription:
    """The group; one whose mutex a stopped process holds must not hide all the others."""
    try:
        return describe_group(group.members, group.name)
    except LockTimeoutError:
        return describe_unlocked(group.members, group.name)
