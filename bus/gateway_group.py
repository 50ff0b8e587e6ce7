"""The groups of a guest: each consumer of it that joins is a member, held by the gateway.

A guest's group `g` is the bus's group `guest-UID/g`: two users never share one by chance, and no
guest touches a group of the owner's. The owner may read and reset them like any other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from bus.catalog import Topic
from bus.errors import GroupAuthorizationFailedError
from bus.group import GroupMembership
from bus.group_ids import check_group_id
from bus.wire import MalformedError

if TYPE_CHECKING:
    from bus.gateway_guest import Guest

#: groups of one user on one bus
USER_GROUPS_MAX: Final = 16

Result = tuple[dict[str, Any], int]


class GuestGroups:
    """The membership of one guest's connection; it has one at most."""

    def __init__(self, guest: "Guest") -> None:
        self._guest = guest
        self._membership: GroupMembership | None = None
        self.operations: dict[str, Callable[..., Result]] = {
            "group_open": self._open,
            "group_join": self._join,
            "group_plan": self._plan,
            "group_release": self._release,
            "group_acquire": self._acquire,
            "group_refresh": self._refresh,
            "group_leave": self._leave,
            "group_commit": self._commit,
            "group_committed": self._committed,
        }

    @property
    def is_due(self) -> bool:
        """True if the guest has a rebalance to follow."""
        return self._membership is not None and self._membership.needs_rebalance

    @property
    def _mine(self) -> GroupMembership:
        if self._membership is None:
            raise MalformedError("a group's call without group_open")
        return self._membership

    def _state(self, **more: Any) -> Result:
        mine = self._mine
        return {
            "owned": sorted(mine.owned),
            "joined": mine.joined,
            "pending": mine.pending,
            "due": mine.needs_rebalance,
            "generation": mine.metadata().generation_id,
            "member": mine.member_id,
            **more,
        }, -1

    def _open(self, *, name: str, strategy: str) -> Result:
        uid = self._guest.peer.uid
        group = f"guest-{uid}/{check_group_id(name)}"
        check_group_id(group)
        self._check_count(group, f"guest-{uid}/")
        self.close()
        self._membership = GroupMembership(self._guest.client, group, strategy=strategy)
        return self._state()

    def _check_count(self, group: str, prefix: str) -> None:
        groups = self._guest.client.call("groups")["groups"]
        names = {str(one.get("name", one.get("group_id", ""))) for one in groups}
        mine = {name for name in names if name.startswith(prefix)}
        if group not in names and len(mine) >= USER_GROUPS_MAX:
            raise GroupAuthorizationFailedError(
                f"user {self._guest.peer.name} has {USER_GROUPS_MAX} groups on this bus, and may"
                " have no more; use one of them, or ask the owner to delete some (bus groups"
                " delete)"
            )

    def _readable(self) -> dict[int, Topic]:
        topics = self._guest.gateway.client.topics()
        return {topic.id: topic for topic in topics}

    def _join(self, *, topics: list[str]) -> Result:
        self._mine.join([self._guest.allowed(name, "read").id for name in topics])
        return self._state()

    def _count_of(self, topic_id: int) -> int:
        topic = self._readable().get(topic_id)
        return 0 if topic is None else topic.partitions

    def _plan(self) -> Result:
        going = self._mine.plan(self._count_of)
        return self._state(going=sorted(going))

    def _release(self, *, partitions: list[list[int]]) -> Result:
        self._mine.release(_keys(partitions))
        return self._state()

    def _acquire(self) -> Result:
        gained = self._mine.acquire()
        return self._state(gained=sorted(gained))

    def _refresh(self) -> Result:
        self._mine.refresh(self._count_of)
        return self._state()

    def _leave(self) -> Result:
        self._mine.leave()
        return self._state()

    def _commit(self, *, offsets: list[list[Any]]) -> Result:
        """[topic id, partition, offset, metadata] each, of topics that the guest may read."""
        readable = self._readable()
        chosen = {}
        for topic_id, partition, offset, metadata in offsets:
            topic = readable.get(int(topic_id))
            if topic is None or not 0 <= int(partition) < topic.partitions:
                raise MalformedError(f"a commit for partition {partition} of topic id {topic_id}")
            self._guest.allowed(topic.name, "read")
            if not 0 <= int(offset) < 1 << 63:
                raise MalformedError(f"a commit of offset {offset}")
            chosen[topic.id, int(partition)] = (int(offset), str(metadata))
        self._mine.commit(chosen)
        return self._state()

    def _committed(self, *, partitions: list[list[int]]) -> Result:
        found = self._mine.committed(_keys(partitions))
        listed = [[*key, one.offset, one.metadata] for key, one in found.items() if one]
        return self._state(offsets=listed)

    def close(self) -> None:
        """The member leaves."""
        membership, self._membership = self._membership, None
        if membership is not None:
            membership.close()


def _keys(partitions: list[list[int]]) -> list[tuple[int, int]]:
    return [(int(topic), int(number)) for topic, number in partitions]
