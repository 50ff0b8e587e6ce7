"""The plan of a group: which member is to own what, computed from one picture of the group.

Everybody computes the same from the same picture, and who computes holds no lock.
"""

from collections.abc import Callable
from typing import NamedTuple

from bus.assignment import Partition, assign
from bus.members import Member, MemberTable

#: topic id -> its number of partitions, 0 if it does not exist
CountOf = Callable[[int], int]


class Picture(NamedTuple):
    """What a plan is computed from: the members and what each member slot owns."""

    generation: int
    members: list[Member]
    owned: dict[int, set[Partition]]


def take_picture(members: MemberTable) -> Picture:
    """The group as it stands; under its mutex."""
    owned: dict[int, set[Partition]] = {}
    for entry in members.owners.entries():
        if entry.owner is not None:
            owned.setdefault(entry.owner, set()).add(entry.partition)
    return Picture(members.generation, members.members(), owned)


def compute_targets(picture: Picture, count_of: CountOf) -> dict[int, frozenset[Partition]]:
    """The plan by member slot. The strategy is the oldest member's; the oldest come first."""
    members = {(member.joined, member.slot): member for member in picture.members}
    topics = {topic for member in picture.members for topic in member.topics}
    plan = assign(
        members[min(members)].strategy,
        {key: member.topics for key, member in members.items()},
        {topic: count_of(topic) for topic in topics},
        {key: picture.owned.get(member.slot, set()) for key, member in members.items()},
    )
    return {members[key].slot: part for key, part in plan.items()}
