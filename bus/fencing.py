"""Whether a commit may be stored: decided under the group's mutex, refused with the reason.

A consumer may have slept (a stopped process, a long garbage collection, a suspended machine) while
its partitions went to somebody else. Its late commit would turn the new owner's offsets back. So a
commit counts only if the member that sends it is in the table now and owns the partitions now.
"""

from collections.abc import Collection, Iterable
from typing import Final

from bus.assignment import Partition
from bus.errors import BrokerNotRunningError, CommitFailedError
from bus.hotdir import MOVING
from bus.liveness import Death
from bus.members import Member, MemberTable
from bus.native.core import LAYOUT, Table

_STOPPING: Final = LAYOUT["bus_control.stopping"]


def check_bus_runs(control: Table, group: str) -> None:
    """Raise BrokerNotRunningError if the bus with this bus.ctl is being stopped, or was.

    The offsets outlive the members table: members of the next bus commit to the same file, and the
    mutex of the old table keeps none of them out. Raises CommitFailedError if the bus goes on in
    another hot directory.
    """
    word = control.load32_acquire(_STOPPING)
    if word == MOVING:
        raise CommitFailedError(
            f"the bus of group {group!r} has moved to another hot directory; nothing was committed:"
            " poll to join the group there, and commit again"
        )
    if word:
        raise BrokerNotRunningError(
            f"the bus of group {group!r} was stopped; nothing was committed: make a new consumer"
            " once it runs again"
        )


def check_bus_stayed(control: Table, group: str) -> None:
    """Raise CommitFailedError if the bus left this hot directory while a commit was written.

    It may have gone to a file that nobody reads any more.
    """
    if control.load32_acquire(_STOPPING) == MOVING:
        raise CommitFailedError(
            f"the bus moved while group {group!r} committed, so the commit may not count: poll to"
            " join the group in the new hot directory, and commit again"
        )


def check_member_commit(
    members: MemberTable, group: str, member: Member, partitions: Iterable[Partition]
) -> None:
    """Raise CommitFailedError unless `member` owns all `partitions`."""
    lost = sorted(set(partitions) - members.owners.owned_by(member.slot))
    if lost:
        names = ", ".join(f"partition {number} of topic number {topic}" for topic, number in lost)
        raise CommitFailedError(
            f"member {member.name!r} of group {group!r} does not own {names} in generation"
            f" {members.generation}: {_owners_of(members, lost)}. Whoever owns it may have read"
            " the same records; poll to take up the new assignment and commit only what is in it"
        )


def check_standalone_commit(members: MemberTable, group: str, death: Death) -> None:
    """Raise CommitFailedError if the group has members: a consumer outside of it must not commit.

    Members that are dead but not reaped yet do not count.
    """
    members.remove_dead(death)
    pids = sorted({member.pid for member in members.members()})
    if pids:
        raise CommitFailedError(
            f"group {group!r} has members (pid {', '.join(map(str, pids))}) and this consumer is"
            " not one of them: use subscribe(), or another group_id together with assign()"
        )


def refuse_removed(members: MemberTable, group: str, name: str) -> CommitFailedError:
    """The error for a commit of a member that was removed from its group."""
    return CommitFailedError(
        f"member {name!r} is no longer in group {group!r} (generation {members.generation}): it"
        " was taken for dead, its process forked, or the bus was started anew. Its partitions may"
        " have another owner; poll to join again"
    )


def _owners_of(members: MemberTable, partitions: Collection[Partition]) -> str:
    pids = {member.slot: member.pid for member in members.members()}
    found = {
        one.partition: f"pid {pids[one.owner]} does"
        for one in members.owners.entries()
        if one.owner in pids and one.partition in partitions
    }
    return ", ".join(sorted({found.get(partition, "nobody does") for partition in partitions}))
