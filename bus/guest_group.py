"""A guest's membership in a group: the same calls as `bus.group.GroupMembership`, by the gateway.

The gateway is the member; it leaves when the guest's connection ends, so a guest that dies is out
of the group at once. What it owned and what it saw is remembered here from each answer.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bus.assignment import Partition
from bus.errors import UnknownMemberIdError
from bus.guest import GuestClient
from bus.native.core import Table
from bus.patience import Patience
from bus.planning import CountOf
from bus.structs import ConsumerGroupMetadata, OffsetAndMetadata


class GuestMembership:
    """One guest consumer's place in one group of its user."""

    def __init__(self, client: GuestClient, group: str, strategy: str) -> None:
        """Open the group, which is made if need be. Raises GroupAuthorizationFailedError."""
        self.group = group
        self._client = client
        self._strategy = strategy
        self._state: dict[str, Any] = {}
        self._connection = -1
        self._topics: list[int] = []
        self.patience = Patience()  # the gateway is what waits
        self._call("group_open", name=group, strategy=strategy)

    def _call(self, op: str, **args: Any) -> dict[str, Any]:
        if op != "group_open" and self._connection != self._client.connections:
            # The gateway is a new one, or a new place in it: the membership ended with the old one.
            was_joined = self._state.get("joined", False)
            self._call("group_open", name=self.group, strategy=self._strategy)
            if was_joined and op not in ("group_join", "group_leave", "group_committed"):
                raise UnknownMemberIdError(f"group {self.group!r}: the gateway was started anew")
        answer = self._client.call(op, **args)
        self._connection = self._client.connections
        self._state = answer
        return answer

    @property
    def joined(self) -> bool:
        """True between `join` and `leave`."""
        return bool(self._state["joined"])

    @property
    def pending(self) -> bool:
        """True while somebody else still holds what is planned for this member."""
        return bool(self._state["pending"])

    @property
    def owned(self) -> frozenset[Partition]:
        """What this member owns, as of its last call."""
        return _keys(self._state["owned"])

    @property
    def needs_rebalance(self) -> bool:
        """True if `plan`, `release` and `acquire` are due, as far as the gateway said."""
        if self._connection != self._client.connections:
            return self.joined
        return self.joined and (self.pending or self._client.group_is_due or self._state["due"])

    @property
    def generation_word(self) -> tuple[Table, int, int]:
        """A word that the client raises when the gateway says that a rebalance is due."""
        return self._client.group_word

    def metadata(self) -> ConsumerGroupMetadata:
        """Group, generation and member id."""
        return ConsumerGroupMetadata(
            self.group, int(self._state["generation"]), str(self._state["member"])
        )

    def join_named(self, names: Collection[str]) -> None:
        """Become a member that reads these topics, or change them."""
        self._call("group_join", topics=sorted(names))

    def plan(self, count_of: CountOf) -> frozenset[Partition]:
        """Take up the plan; what this member must give up. Raises UnknownMemberIdError."""
        return _keys(self._call("group_plan")["going"])

    def release(self, partitions: Iterable[Partition]) -> None:
        """Give partitions up, after the last commit for them."""
        self._call("group_release", partitions=sorted(partitions))

    def acquire(self) -> frozenset[Partition]:
        """Take what is planned for this member and free now; what it gained."""
        return _keys(self._call("group_acquire")["gained"])

    def refresh(self, count_of: CountOf) -> bool:
        """The catalog has changed: a plan that no longer fits is made anew."""
        self._call("group_refresh")
        return self.needs_rebalance

    def reap_dead(self) -> int:
        """The broker does that at once; this only asks whether something is due."""
        self._client.call("state")
        return 0

    def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Store (next offset, metadata). Raises CommitFailedError."""
        self._call("group_commit", offsets=[[*key, *value] for key, value in offsets.items()])

    def committed(
        self, partitions: Iterable[Partition]
    ) -> dict[Partition, OffsetAndMetadata | None]:
        """The group's offsets for some partitions, None where it has none."""
        wanted = list(partitions)
        found: dict[Partition, OffsetAndMetadata | None] = dict.fromkeys(wanted)
        answer = self._call("group_committed", partitions=[list(key) for key in wanted])
        for topic, number, offset, metadata in answer["offsets"]:
            found[topic, number] = OffsetAndMetadata(offset, metadata)
        return found

    def leave(self) -> None:
        """Give everything up. Idempotent."""
        if self.joined and self._connection == self._client.connections:
            self._call("group_leave")

    def close(self, *, leave: bool = True) -> None:
        """Leave, unless it is told not to."""
        if leave and not self._client.stale and not self._client.closed:
            self.leave()


def _keys(listed: Iterable[Iterable[int]]) -> frozenset[Partition]:
    return frozenset((topic, number) for topic, number in listed)
