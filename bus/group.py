"""A consumer's part in its group: join, follow the plan, hand over, commit. No coordinator.

    join ─► needs_rebalance ─► plan ─► (revoked callback, commit) ─► release ─► acquire ─┐
              ▲   generation moved, or somebody still holds what is planned for me       │
              └──────────────────────────────────────────────────────────────────────────┘

`plan` finds the targets of the present generation, or computes them: from the members, their
topics and what each one owns, without holding the mutex, and writes them if the generation is
still the same. `release` and `acquire` move single owner words. A partition moves only when its
owner released it, left, or is proven dead, so two members never read it at the same time.

Guarantees: a commit is accepted only from the present owner of the partition, under the mutex that
every hand-over takes: a member that was removed while it slept cannot overwrite the offsets of its
successor. Whoever may have to act after a change is rung at once; nothing waits for a timeout.

Assumes: one `GroupMembership` belongs to one consumer, whose calls are serialised by it.

What the words of the shared tables mean, and what a death at each store leaves behind, stands at
the head of members.py.
"""

import os
from collections.abc import Collection, Iterable, Mapping

from bus import fencing
from bus.assignment import STRATEGIES, Partition
from bus.errors import (
    BusConfigurationError,
    GroupIdNotFoundError,
    UnknownMemberIdError,
)
from bus.group_tables import GroupClient, GroupTables
from bus.members import LOCK_TIMEOUT_MS, Member, MemberId, MemberTable
from bus.native.core import Table
from bus.newcomer import checked_topics, newcomer
from bus.offset_entries import encode_metadata
from bus.patience import PASSING_MS, Patience
from bus.planning import CountOf, compute_targets, take_picture
from bus.structs import ConsumerGroupMetadata, OffsetAndMetadata

#: plans that one call of `plan` computes while others keep joining and leaving; then the next poll
#: goes on
_ROUNDS_MAX = 8


class GroupMembership:
    """One consumer's place in one group. Made unjoined: good for `commit` and `committed`."""

    def __init__(
        self,
        client: GroupClient,
        group: str,
        *,
        strategy: str = "sticky",
        lock_timeout_ms: float = LOCK_TIMEOUT_MS,
    ) -> None:
        """Create the group if it is not there, and attach to its tables.

        Raises BusConfigurationError for an unknown strategy, InvalidGroupIdError, and what a call
        to the broker raises.
        """
        if strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise BusConfigurationError(
                f"partition_assignment_strategy {strategy!r} is not known; use one of: {known}"
            )
        self.group = group
        self._client = client
        self._strategy = strategy
        self._lock_timeout_ms = lock_timeout_ms
        self._me: MemberId | None = None
        self._pid = os.getpid()
        self._topics: tuple[int, ...] = ()
        self._seen = 0
        self._pending = False
        self.patience = Patience()
        self._owned: frozenset[Partition] = frozenset()
        self._tables = self._open()

    def _open(self) -> GroupTables:
        return GroupTables(
            self._client, self.group, create=True, lock_timeout_ms=self._lock_timeout_ms
        )

    def _renew(self) -> None:
        """Open the tables anew if the group was deleted, or the client attached anew."""
        if not self._tables.stale:
            return
        self._forget()
        old, self._tables = self._tables, self._open()
        old.close()

    @property
    def _members(self) -> MemberTable:
        return self._tables.members

    # ------------------------------------------------------------------------ what it is

    @property
    def group_id(self) -> int:
        """The group's number."""
        return self._members.group_id

    @property
    def joined(self) -> bool:
        """True between `join` and `leave`, in the process that joined."""
        return self._me is not None and self._pid == os.getpid()

    @property
    def member_id(self) -> str:
        """The member's name for people, "" if it has not joined."""
        if self._me is None:
            return ""
        return f"{self._client_id}-{self._me.slot}-{self._me.joined}"

    @property
    def _client_id(self) -> str:
        return self._client.client_id or "consumer"

    @property
    def generation(self) -> int:
        """The group's, now: one load."""
        return self._members.generation

    @property
    def generation_word(self) -> tuple[Table, int, int]:
        """Table and place of the generation, and what was acted on; while held up, what it is."""
        seen = self.generation if self.patience.is_held_up else self._seen
        return *self._members.generation_word, seen

    @property
    def owned(self) -> frozenset[Partition]:
        """What this member owns, as of its last call."""
        return self._owned

    @property
    def pending(self) -> bool:
        """True while somebody else still holds what is planned for this member."""
        return self._pending

    @property
    def needs_rebalance(self) -> bool:
        """True if `plan`, `release` and `acquire` are due. One load: ask at every poll."""
        return self.joined and (self._pending or self._members.generation != self._seen)

    def metadata(self) -> ConsumerGroupMetadata:
        """Group, generation and member id."""
        generation = self._seen if self.joined else -1
        return ConsumerGroupMetadata(self.group, generation, self.member_id)

    # -------------------------------------------------------------------- join and leave

    def join(self, topic_ids: Collection[int]) -> None:
        """Become a member that reads these topics, or change them; the others are rung.

        Raises BusConfigurationError beyond 224 topics, BusError if the group has 256 members.
        """
        topics = checked_topics(topic_ids)
        self._renew()
        with self._members.locked(self.patience.wait_ms):
            if self._members.deleted:
                raise GroupIdNotFoundError(f"group {self.group!r} is being deleted; join it again")
            member = self._myself()
            if member is None:
                self._admit(topics)
            elif member.topics != topics:
                self._members.raise_generation()
                self._members.subscribe(member.slot, topics)
            else:
                return
        self._tables.ring_all_but(self._me)

    def _admit(self, topics: tuple[int, ...]) -> None:
        self._members.remove_dead(self._tables.death)
        member = newcomer(self._tables, self.group, self._strategy, topics)
        self._forget()
        self._me, self._pid = member.id, os.getpid()
        self._members.admit(member)

    def leave(self) -> None:
        """Give everything up and ring the others. Idempotent; a forked child only forgets."""
        if self.joined:
            with self._members.locked(self.patience.wait_ms):
                member = self._myself()
                if member is not None:
                    self._members.remove(member.slot)
            if member is not None:
                self._tables.ring_all_but(self._me)
        self._forget()

    def close(self, *, leave: bool = True) -> None:
        """Leave and close the files. Idempotent. Not to `leave` touches nothing that is shared."""
        try:
            if leave:
                self.leave()
        finally:
            self._forget()
            self._tables.close()

    def _forget(self) -> None:
        self._me = None
        self._seen = 0
        self._pending = False
        self._owned = frozenset()

    # ------------------------------------------------------------------------- rebalance

    def plan(self, count_of: CountOf) -> frozenset[Partition]:
        """Take up the plan of the present generation; returns what this member must give up.

        `count_of` is asked, without the mutex, for the partitions of every topic that any member
        reads. Raises UnknownMemberIdError if this member was removed: all it had is lost.
        """
        for _ in range(_ROUNDS_MAX):
            with self._members.locked(self.patience.wait_ms):
                me = self._still_member()
                self._members.remove_dead(self._tables.death)
                if self._members.planned:
                    return self._take_up(me)
                picture = take_picture(self._members)
            targets = compute_targets(picture, count_of)
            with self._members.locked(self.patience.wait_ms):
                # The first one to finish decides: a plan must not change while it is followed.
                if self._members.generation == picture.generation and not self._members.planned:
                    self._members.owners.set_targets(targets)
                    self._members.mark_planned(picture.generation)
        return frozenset()  # the group is in turmoil: needs_rebalance stays true

    def _take_up(self, me: Member) -> frozenset[Partition]:
        entries = self._members.owners.entries()
        self._seen = self._members.generation
        self._owned = frozenset(one.partition for one in entries if one.owner == me.slot)
        planned = {one.partition for one in entries if one.target == me.slot}
        self._pending = bool(planned - self._owned)
        if not self._pending:
            self._members.mark_seen(me.slot, self._seen)
        return self._owned - planned

    def release(self, partitions: Iterable[Partition]) -> None:
        """Give partitions up, after the last commit for them; rings those who wait for them."""
        given_up = set(partitions)
        waiting = set()
        with self._members.locked(self.patience.wait_ms):
            me = self._still_member()
            for entry in self._members.owners.entries():
                if entry.owner == me.slot and entry.partition in given_up:
                    self._members.owners.release(entry.at)
                    waiting.add(entry.target)
            self._owned -= given_up
            taker = [one.client for one in self._members.members() if one.slot in waiting]
        self._tables.ring(taker)

    def acquire(self) -> frozenset[Partition]:
        """Take what is planned for this member and free now; returns what it gained.

        Nothing is gained if the group has moved on since the plan: plan again.
        """
        with self._members.locked(self.patience.wait_ms):
            me = self._still_member()
            if not self._members.planned:
                return frozenset()
            mine = [one for one in self._members.owners.entries() if one.target == me.slot]
            gained = [one for one in mine if one.owner is None]
            for entry in gained:
                self._members.owners.claim(entry.at, me.slot)
            self._pending = any(one.owner not in (None, me.slot) for one in mine)
            if not self._pending:
                self._members.mark_seen(me.slot, self._seen)
            found = frozenset(entry.partition for entry in gained)
            self._owned |= found
            return found

    def refresh(self, count_of: CountOf) -> bool:
        """Call when the catalog changed: True if the plan no longer fits and all must plan again.

        Only the first member to notice raises the generation.
        """
        if not self.joined:
            return False
        with self._members.locked():
            me = self._myself()
        if me is None:
            return False  # removed, and so the generation has moved: the next plan says so
        topics = me.topics
        wanted = {(topic, n) for topic in topics for n in range(count_of(topic))}
        with self._members.locked(self.patience.wait_ms):
            me = self._still_member()
            planned = {
                one.partition
                for one in self._members.owners.entries()
                if one.target is not None and one.partition[0] in topics
            }
            if me.topics != topics or planned == wanted:
                return False
            self._members.raise_generation()
        self._tables.ring_all_but(self._me)
        return True

    def reap_dead(self) -> int:
        """Remove the members proven dead; how many. Every few seconds is enough.

        A running broker does this at once when a client's socket closes. Looks without the mutex
        first, so that it costs a system call a member and disturbs nobody.
        """
        death = self._tables.death
        if not any(death(one.client, one.client_generation) for one in self._members.members()):
            return 0
        with self._members.locked(self.patience.wait_ms):
            count = self._members.remove_dead(death)
        self._tables.ring_all_but(self._me)
        return count

    # --------------------------------------------------------------------------- offsets

    def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Store (next offset to read, metadata) for partitions of this member: all or nothing.

        Without having joined it works while the group has no members, as in Kafka. Raises
        CommitFailedError saying why it is refused, OffsetMetadataTooLargeError beyond 192 bytes.
        """
        if self._me is None:
            self._renew()
        encoded = {
            partition: (offset, encode_metadata(metadata))
            for partition, (offset, metadata) in offsets.items()
        }
        with self._members.locked(self.patience.wait_ms):
            self._check_fence(encoded)
            self._tables.put(encoded)
        self._tables.moved(encoded)

    def committed(
        self, partitions: Iterable[Partition]
    ) -> dict[Partition, OffsetAndMetadata | None]:
        """The group's offsets for some partitions, None where it has none."""
        if self._me is None:
            self._renew()
        found = self._tables.committed(partitions, PASSING_MS)
        return {
            partition: OffsetAndMetadata(one.offset, one.metadata) if one else None
            for partition, one in found.items()
        }

    def _check_fence(self, partitions: Iterable[Partition]) -> None:
        fencing.check_bus_runs(self._client.control, self.group)
        member = self._myself()
        if member is not None:
            fencing.check_member_commit(self._members, self.group, member, partitions)
        elif self._me is not None:
            raise fencing.refuse_removed(self._members, self.group, self.member_id)
        else:
            fencing.check_standalone_commit(self._members, self.group, self._tables.death)

    def _myself(self) -> Member | None:
        """This member as it stands in the table; None if it never joined or was removed."""
        if self._me is None or not self.joined:
            return None
        member = self._members.member(self._me.slot)
        if member is None or member.id != self._me:
            return None
        key = member.client, member.client_generation
        return member if key == self._tables.client_key else None

    def _still_member(self) -> Member:
        """This member under the mutex. Raises UnknownMemberIdError if it was removed."""
        member = self._myself()
        if member is None:
            self._owned = frozenset()
            raise UnknownMemberIdError(
                f"member {self.member_id!r} is not in group {self.group!r} (any more): its process"
                " was taken for dead or forked, or the group was deleted; join again"
            )
        return member
