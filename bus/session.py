"""A consumer's side of its group: who reads what now, what is committed, and when.

Translates between topic names, which a program uses, and topic ids, which the shared tables hold.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from bus.client import Client
from bus.errors import CommitFailedError, UnknownMemberIdError, UnknownTopicOrPartitionError
from bus.group import GroupMembership
from bus.native.core import Table
from bus.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

if TYPE_CHECKING:
    from bus.guest_group import GuestMembership

logger = logging.getLogger(__name__)

Partitions = frozenset[TopicPartition]
Revoke = Callable[[Partitions], None]


def _membership(client: Client, group: str, strategy: str) -> "GroupMembership | GuestMembership":
    if client.is_guest:
        from bus.guest_group import GuestMembership  # here, because only guests need it

        return GuestMembership(client, group, strategy)  # type: ignore[arg-type]
    return GroupMembership(client, group, strategy=strategy)


class GroupSession:
    """One consumer in one group."""

    def __init__(self, client: Client, group: str, strategy: str) -> None:
        self._client = client
        self._group = group
        self._strategy = strategy
        self._names: dict[int, str] = {}
        self.membership = _membership(client, group, strategy)

    # ------------------------------------------------------------------------ names and ids

    def _key(self, partition: TopicPartition) -> tuple[int, int]:
        topic = self._client.topic(partition.topic)
        if not 0 <= partition.partition < topic.partitions:
            raise UnknownTopicOrPartitionError(
                f"topic {topic.name!r} has partitions 0..{topic.partitions - 1}, not"
                f" {partition.partition}"
            )
        self._names[topic.id] = topic.name
        return topic.id, partition.partition

    def _named(self, partitions: Collection[tuple[int, int]]) -> Partitions:
        return frozenset(
            TopicPartition(self._names[topic], number)
            for topic, number in partitions
            if topic in self._names
        )

    def _count_of(self, topic_id: int) -> int:
        for topic in self._client.topics():
            self._names[topic.id] = topic.name
            if topic.id == topic_id:
                return topic.partitions
        return 0

    # ------------------------------------------------------------------------- membership

    @property
    def rebalance_due(self) -> bool:
        """True if `rebalance` has something to do, and is not held up. One load."""
        return self.membership.needs_rebalance and not self.membership.patience.is_held_up

    def join(self, topics: Collection[str]) -> None:
        """Become a member that reads these topics, or change them."""
        ids = []
        for name in topics:
            topic = self._client.topic(name)
            self._names[topic.id] = topic.name
            ids.append(topic.id)
        if isinstance(self.membership, GroupMembership):
            self.membership.join(ids)
        else:
            self.membership.join_named(topics)

    def rebalance(self, revoke: Revoke, lose: Revoke) -> Partitions:
        """Give up what the plan gives to others, take what it gives to us; returns what came.

        `revoke` is called with what goes, while it can still be committed; `lose` with what is
        gone already, when this member was removed: the caller joins again.
        """
        before = self._named(self.membership.owned)
        try:
            going = self._named(self.membership.plan(self._count_of))
            if going:
                revoke(going)
                self.membership.release({self._key_of(partition) for partition in going})
            return self._named(self.membership.acquire())
        except UnknownMemberIdError:
            lose(before)
            raise

    def _key_of(self, partition: TopicPartition) -> tuple[int, int]:
        ids = {name: topic_id for topic_id, name in self._names.items()}
        return ids[partition.topic], partition.partition

    def topics_changed(self) -> None:
        """The catalog has changed: a plan that no longer fits is made anew."""
        self.membership.refresh(self._count_of)

    def reap_dead(self) -> None:
        """Let members leave that are proven dead; the broker does it sooner, if it lives."""
        self.membership.reap_dead()

    def watched_word(self) -> tuple[Table, int, int]:
        """Where the group's generation stands, and its value that was last acted upon."""
        return self.membership.generation_word

    # ----------------------------------------------------------------------------- offsets

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Store offsets. Raises CommitFailedError if a partition is not ours any more."""
        self.membership.commit(
            {self._key(tp): (value.offset, value.metadata) for tp, value in offsets.items()}
        )

    def commit_what_is_left(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """The same for an automatic commit, where a deleted topic or a lost partition is no error.

        Whoever owns a lost partition now commits for it.
        """
        mine = {tp: value for tp, value in offsets.items() if self._still_mine(tp)}
        if mine:
            self.commit(mine)

    def begin_at(self, partition: TopicPartition, offset: int) -> None:
        """Commit where the group begins, if producers wait for it: else they would never go on.

        They count a group without a commit from the log start, and it reads nothing from there.
        """
        config = self._client.topic(partition.topic).config
        if not config.lag_limited or self._group not in config.lag_groups:
            return
        try:
            self.commit_what_is_left({partition: OffsetAndMetadata(offset)})
        except CommitFailedError as error:
            logger.warning(
                "group %r: producers go on counting %s-%d from its log start: %s",
                self._group,
                *partition,
                error,
            )

    def _still_mine(self, partition: TopicPartition) -> bool:
        try:
            key = self._key(partition)
        except UnknownTopicOrPartitionError:
            return False
        return not self.membership.joined or key in self.membership.owned

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed for each of the partitions."""
        keys = {self._key(tp): tp for tp in partitions}
        found = self.membership.committed(list(keys))
        return {tp: found.get(key) for key, tp in keys.items()}

    def metadata(self) -> ConsumerGroupMetadata:
        """Group, generation and member id."""
        return self.membership.metadata()

    def leave(self) -> None:
        """Stop being a member; offsets can still be committed if nobody else is one."""
        self.membership.leave()

    def close(self, *, leave: bool = True) -> None:
        """Leave and let go of the tables; not to `leave` touches nothing that is shared."""
        self.membership.close(leave=leave)
