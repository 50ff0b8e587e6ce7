"""A member of a share group: its slot in the members table, its ack tables, and what it commits.

There is nothing to plan and nothing to hand over: every member may claim records of every partition
of its topics. The members table says who is there; the ack tables say who has which record.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from bus.ack_tables import note_taken_back, open_table
from bus.assignment import Partition
from bus.client import Client
from bus.errors import (
    GroupIdNotFoundError,
    InconsistentGroupProtocolError,
)
from bus.fencing import check_bus_runs
from bus.group_tables import GroupTables
from bus.incidents import Incidents
from bus.members import SHARE, MemberId, MemberTable
from bus.native.core import AckTable
from bus.newcomer import checked_topics, newcomer
from bus.share_modes import Mode, check_mode

#: how long a look at a table of a dead member waits for its mutex, in milliseconds
REAP_MS: Final = 50.0


class ShareSession:
    """One ShareConsumer in one group."""

    def __init__(self, client: Client, group: str, mode: Mode) -> None:
        """The group is made if there is none. Raises what a call to the broker raises."""
        self.group = group
        self._mode = mode
        self._client = client
        self._me: MemberId | None = None
        self._pid = os.getpid()
        self._tables = GroupTables(client, group, create=True)
        self._committed: dict[Partition, int] = {}

    @property
    def _members(self) -> MemberTable:
        return self._tables.members

    # -------------------------------------------------------------------- join and leave

    def join(self, topic_ids: Iterable[int]) -> None:
        """Become a member, or change the topics.

        Raises InconsistentGroupProtocolError if Consumers are in the group or its mode is another,
        BusConfigurationError beyond 224 topics, BusError if the group is full.
        """
        topics = checked_topics(topic_ids)
        with self._members.locked():
            if self._members.deleted:
                raise GroupIdNotFoundError(f"group {self.group!r} is being deleted; join it again")
            if self._me is None:
                self._admit(topics)
            else:
                self._members.subscribe(self._me.slot, topics)

    def _admit(self, topics: tuple[int, ...]) -> None:
        self._members.remove_dead(self._tables.death)
        present = self._members.members()
        readers = [one for one in present if one.strategy != SHARE]
        if readers:
            names = ", ".join(f"pid {one.pid} ({one.client_id})" for one in readers)
            raise InconsistentGroupProtocolError(
                f"group {self.group!r} has Consumers in it: {names}; a share group has only"
                " ShareConsumers: end them, or use another group_id"
            )
        check_mode(self.group, self._members.mode, self._mode)
        member = newcomer(self._tables, self.group, SHARE, topics)
        self._members.mark_shared(self._mode)
        self._me = member.id
        self._members.admit(member)

    def close(self, *, leave: bool = True) -> None:
        """Leave, and close the files. Idempotent; a forked child only forgets.

        Not to `leave` touches nothing that is shared: of a bus that has moved nothing is believed.
        """
        me, self._me = self._me, None
        try:
            if leave and me is not None and self._pid == os.getpid():
                with self._members.locked():
                    member = self._members.member(me.slot)
                    if member is not None and member.id == me:
                        self._members.remove(me.slot)
        finally:
            self._tables.close()

    # ------------------------------------------------------------------------ ack tables

    def open_acks(self, topic: str, number: int, start: int) -> AckTable:
        """The ack table of a partition; a new one begins at the committed offset, or at `start`."""
        answer = self._client.call(
            "share",
            group=self.group,
            topic=topic,
            partition=number,
            start=start,
            mode=self._mode,
        )
        bells, slot = self._client.bells, self._client.slot.slot
        return open_table(self._client.hot_fd, str(answer["table"]), bells, slot)

    def is_committed(self, lows: Mapping[Partition, int]) -> bool:
        """True if this member knows that there is nothing to commit."""
        return self._committed == lows

    def commit(self, lows: Mapping[Partition, int]) -> None:
        """Store how far each partition is done, as the group's committed offset."""
        if self.is_committed(lows):
            return
        with self._members.locked():
            check_bus_runs(self._client.control, self.group)
            ahead = self._tables.offsets.ahead(lows)
            if ahead:
                self._tables.put(ahead)
        self._tables.moved(ahead)
        self._committed = dict(lows)

    def reap_dead(self, tables: Iterable[AckTable]) -> None:
        """Give back what members had that are proven dead; a running broker does it at once."""
        for table in tables:
            for client, generation in table.claimants():
                if client == table.client or not self._tables.death(client, generation):
                    continue
                taken = table.reap(client, generation, REAP_MS)
                if taken:
                    note_taken_back(
                        Incidents(self._client.control), self.group, taken, table.identity[2:]
                    )
