"""Groups seen from outside: the broker's reaper and the admin. Nobody here is a member."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from bus.assignment import Partition
from bus.errors import GroupIdNotFoundError, NonEmptyGroupError
from bus.liveness import Death
from bus.members import Member, MemberTable
from bus.native.core import Bells
from bus.offset_entries import NO_OFFSET
from bus.offsets import OffsetTable
from bus.share_modes import Mode


@dataclass(frozen=True)
class MemberDescription:
    """A member for people. `topics` are topic ids, `partitions` what it owns now."""

    member_id: str
    client_id: str
    pid: int
    client_slot: int
    strategy: str
    topics: tuple[int, ...]
    partitions: tuple[Partition, ...]


@dataclass(frozen=True)
class GroupDescription:
    """A group for people. `state` is one of Kafka's.

    Empty, Stable, PreparingRebalance, Dead; Unknown if a stopped process holds the group's mutex.
    """

    group: str
    group_id: int
    state: str
    generation: int
    mode: Mode | None
    members: tuple[MemberDescription, ...]


def describe_group(members: MemberTable, group: str) -> GroupDescription:
    """Members, what each one owns, and whether all have taken up the present plan."""
    with members.locked():
        return _described(members, group, _state(members, members.members()))


def describe_unlocked(members: MemberTable, group: str) -> GroupDescription:
    """The same at a glance, while a stopped process holds the mutex: the state is Unknown."""
    return _described(members, group, "Unknown")


def _described(members: MemberTable, group: str, state: str) -> GroupDescription:
    return GroupDescription(
        group=group,
        group_id=members.group_id,
        state=state,
        generation=members.generation,
        mode=members.mode,
        members=tuple(_describe(members, member) for member in members.members()),
    )


def _state(members: MemberTable, present: list[Member]) -> str:
    if members.deleted:
        return "Dead"
    if not present:
        return "Empty"
    if members.shared:
        return "Stable"
    settled = members.planned and all(one.seen == members.generation for one in present)
    return "Stable" if settled else "PreparingRebalance"


def _describe(members: MemberTable, member: Member) -> MemberDescription:
    return MemberDescription(
        member_id=member.name,
        client_id=member.client_id,
        pid=member.pid,
        client_slot=member.client,
        strategy=member.strategy,
        topics=member.topics,
        partitions=tuple(sorted(members.owners.owned_by(member.slot))),
    )


def remove_client(
    members: MemberTable, bells: Bells, client_slot: int, client_generation: int
) -> int:
    """Remove what a dead client left in a group and ring the others; how many members it had.

    The caller has proof of death: it holds the client's byte of clients.lock. Where the client is
    no member and nobody has died in the mutex, nothing is locked.
    """
    key = (client_slot, client_generation)
    mine = any((one.client, one.client_generation) == key for one in members.members())
    if not mine and not members.needs_repair:
        return 0
    before = members.generation
    with members.locked():
        dead = [
            one
            for one in members.members()
            if (one.client, one.client_generation) == (client_slot, client_generation)
        ]
        for member in dead:
            members.remove(member.slot)
        present = members.members()
    # Also if nobody was removed: it may have died in a leave, which the lock has repaired.
    if members.generation != before:
        for member in present:
            bells.ring(member.client)
    return len(dead)


def reset_offsets(
    members: MemberTable,
    offsets: OffsetTable,
    new: Mapping[Partition, int | None],
    death: Death,
) -> None:
    """Set a group's offsets; None deletes one. Raises NonEmptyGroupError naming the pids."""
    encoded = {
        partition: (NO_OFFSET if offset is None else offset, b"")
        for partition, offset in new.items()
    }
    with members.locked():
        check_empty(members, offsets.header.name, death, "reset its offsets")
        offsets.put(encoded, generation=members.generation, timestamp_ns=time.time_ns())


def mark_deleted(members: MemberTable, death: Death, *, group: str = "") -> None:
    """Let nobody join any more; the caller then unlinks both files. NonEmptyGroupError.

    `group` is the name for the message.
    """
    with members.locked():
        check_empty(members, group or f"number {members.group_id}", death, "delete it")
        members.mark_deleted()


def check_empty(members: MemberTable, group: str, death: Death, what: str) -> None:
    """Raise NonEmptyGroupError naming the pids, or GroupIdNotFoundError; under the mutex."""
    if members.deleted:
        raise GroupIdNotFoundError(f"group {group!r} was deleted")
    members.remove_dead(death)
    present = members.members()
    if present:
        who = ", ".join(f"pid {one.pid} ({one.client_id})" for one in present)
        raise NonEmptyGroupError(
            f"group {group!r} has members: {who}; end or unsubscribe them, then {what}"
        )
