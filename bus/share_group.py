"""A member of a share group: its slot in the members table, its ack tables, and what it commits.

There is nothing to plan and nothing to hand over: every member may claim records of every partition
of its topics. The members table says who is there; the ack tables say who has which record.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from bus.ack_tables import open_table
from bus.assignment import Partition
from bus.client import Client
from bus.errors import (
    BusConfigurationError,
    BusError,
    GroupIdNotFoundError,
    InconsistentGroupProtocolError,
)
from bus.fencing import check_bus_runs
from bus.group_tables import GroupTables
from bus.incidents import Incident, Incidents
from bus.members import MEMBERS_MAX, SHARE, TOPICS_MAX, Member, MemberId, MemberTable
from bus.native.core import LAYOUT, AckTable

#: how long a look at a table of a dead member waits for its mutex, in milliseconds
REAP_MS: Final = 50.0
_CLIENTS: Final = LAYOUT["BUS_CLIENTS"]


class ShareSession:
    """One ShareConsumer in one group."""

    def __init__(self, client: Client, group: str) -> None:
        """The group is made if there is none. Raises what a call to the broker raises."""
        self.group = group
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

        Raises InconsistentGroupProtocolError if Consumers are in the group, BusConfigurationError
        beyond 224 topics, BusError if the group is full.
        """
        topics = tuple(sorted(set(topic_ids)))
        if len(topics) > TOPICS_MAX:
            raise BusConfigurationError(
                f"a group member can subscribe to {TOPICS_MAX} topics, not {len(topics)}; use"
                " several consumers"
            )
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
        slot = self._members.free_slot()
        if slot is None:
            raise BusError(
                f"group {self.group!r} has {MEMBERS_MAX} members, no more fit; end some of them"
            )
        self._members.mark_shared()
        # Before the slot is written: should a signal handler raise in between, leave() frees it.
        self._me = MemberId(slot, self._members.generation + 1)
        client, client_generation = self._tables.client_key
        self._members.admit(
            Member(
                slot=slot,
                client=client,
                client_generation=client_generation,
                joined=self._me.joined,
                strategy=SHARE,
                pid=self._pid,
                seen=0,
                client_id=self._client.client_id or "consumer",
                topics=topics,
            )
        )

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
            "share", group=self.group, topic=topic, partition=number, start=start
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
            known = self._tables.offsets.get(list(lows))
            ahead = {
                at: (low, b"")
                for at, low in lows.items()
                if (before := known[at]) is None or before.offset < low
            }
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
                    Incidents(self._client.control).note(
                        Incident.RECORDS_TAKEN_BACK,
                        "group %r: %d records of partition %d of topic %d come again; who had them"
                        " is dead",
                        self.group,
                        taken,
                        *reversed(table.identity[2:]),
                    )
