"""A group of three settled members, what one of them may die in, and the way back to the begin.

The members live in one process. Whoever is to act does so in a forked child that takes on the
member's identity; the parent keeps the locks of clients.lock, and lets go of one for a death.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import posix_ipc

from bus.errors import CommitFailedError
from bus.group import GroupMembership
from bus.group_admin import reset_offsets
from bus.liveness import death_probe, lock_byte
from bus.members_file import members_file_name
from tests.groups.rig import GROUP, GROUP_ID, Rig, poll, settle

TOPICS = (1, 2)
#: More partitions than one pair of pages of the offsets file has entries.
COUNTS = {1: 12, 2: 11}
#: What was committed before, what the victim commits, and what the one that takes over does.
BEFORE, DURING, AFTER = 10, 20, 30


class Stage:
    """One group. `victim` dies, `survivor` takes over, `bystander` does when that one dies too."""

    def __init__(self, path: Path) -> None:
        self.rig = Rig(path, dict(COUNTS))
        self.victim = GroupMembership(self.rig.client(), GROUP)
        self.survivor = self.rig.join(*TOPICS)
        self.bystander = self.rig.join(*TOPICS)
        for one in self.members:
            one._client.make_doorbell()
        self._bells = [
            posix_ipc.Semaphore(one._client.bells.name(one._client.slot.slot))
            for one in self.members
        ]
        self.table = self.rig.members()
        self._dead: list[GroupMembership] = []
        #: members that are there besides the victim
        self.others = [self.survivor, self.bystander]

    @property
    def members(self) -> list[GroupMembership]:
        return [self.victim, self.survivor, self.bystander]

    def close(self) -> None:
        for bell in self._bells:
            bell.close()
        for one in self.members:
            one._client.remove_doorbell()
            self.die(one)
        os.close(self.rig.hot_fd)

    def settle(self) -> None:
        settle(self.rig, *(one for one in self.members if one.joined))

    def commit(self, member: GroupMembership, offset: int) -> None:
        member.commit(dict.fromkeys(member.owned, (offset, f"m{offset}")))

    def committed(self) -> dict[tuple[int, int], int]:
        """All commits, after a look that the metadata is that of the offset."""
        found = self.rig.offsets().read()
        assert all(one.metadata in ("", f"m{one.offset}") for one in found.values()), found
        return {partition: one.offset for partition, one in found.items()}

    # ---------------------------------------------------------------------------- back again

    def remember(self) -> None:
        """This is where every run begins."""
        self._members = bytes(self.table._table.view)
        self._control = bytes(self.rig.control.view)
        self._offsets_path = next((self.rig.path / "groups").iterdir())
        self._offsets = self._offsets_path.read_bytes()
        self.begin = self.committed()

    def restore(self) -> None:
        """Back to where every run begins; all are alive again."""
        self.table._table.view[:] = self._members
        self.rig.control.view[:] = self._control
        self._offsets_path.write_bytes(self._offsets)
        for bell in self._bells:
            while bell.value:  # a bell that has rung is not rung again
                bell.acquire(0)
        for one in self.members:
            if one in self._dead:
                one._client.lock_fd = self.rig.open_clients_lock()
                assert lock_byte(one._client.lock_fd, one._client.slot.slot)
        self._dead.clear()

    def die(self, member: GroupMembership) -> None:
        """Let go of the lock that proves its client alive."""
        if member not in self._dead:
            self._dead.append(member)
            os.close(member._client.lock_fd)

    @property
    def members_path(self) -> Path:
        return self.rig.path / "hot" / members_file_name(GROUP_ID)

    @property
    def offsets_path(self) -> Path:
        return self._offsets_path


@dataclass(frozen=True)
class Operation:
    """What leads to the state, and what the victim does in it."""

    prepare: Callable[[Stage], object]
    act: Callable[[Stage], object]
    #: the bystander is dead as well
    one_is_dead: bool = False
    #: what it may delete
    deletes: frozenset[tuple[int, int]] = frozenset()


def _joined(stage: Stage) -> None:
    stage.victim.join(TOPICS)
    stage.settle()
    for one in stage.members:
        stage.commit(one, BEFORE)


def _uncommitted(stage: Stage) -> None:
    """The others fill the first pair of pages, so that the victim's commit needs another."""
    stage.victim.join(TOPICS)
    stage.settle()
    for one in stage.others:
        stage.commit(one, BEFORE)


def _unplanned(stage: Stage) -> None:
    stage.victim.join(TOPICS)


def _free_for_the_victim(stage: Stage) -> None:
    stage.victim.join(TOPICS)
    stage.victim.plan(stage.rig.count_of)
    for one in stage.others:
        poll(stage.rig, one)


def _somebody_comes(stage: Stage) -> None:
    stage.bystander.leave()
    stage.victim.join(TOPICS)
    stage.settle()
    stage.bystander.join(TOPICS)


def _hand_over(stage: Stage) -> None:
    going = stage.victim.plan(stage.rig.count_of)
    assert going
    stage.victim.commit(dict.fromkeys(going, (DURING, f"m{DURING}")))
    stage.victim.release(going)


def _grown(stage: Stage) -> None:
    _joined(stage)
    stage.rig.counts[1] += 1


def _all_left(stage: Stage) -> None:
    _joined(stage)
    for one in stage.members:
        one.leave()


def _reset(stage: Stage) -> None:
    lock_fd = stage.rig.open_clients_lock()
    death = death_probe(lock_fd, stage.rig.control)
    new = {(1, 0): DURING, (1, 1): None, (2, 0): DURING}
    reset_offsets(stage.rig.members(), stage.rig.offsets(), new, death)


OPERATIONS: dict[str, Operation] = {
    "join": Operation(lambda stage: None, lambda stage: stage.victim.join(TOPICS)),
    "plan": Operation(_unplanned, lambda stage: stage.victim.plan(stage.rig.count_of)),
    "take partitions": Operation(_free_for_the_victim, lambda stage: stage.victim.acquire()),
    "hand partitions over": Operation(_somebody_comes, _hand_over),
    "commit": Operation(_joined, lambda stage: stage.commit(stage.victim, DURING)),
    "first commit": Operation(_uncommitted, lambda stage: stage.commit(stage.victim, DURING)),
    "subscribe anew": Operation(_joined, lambda stage: stage.victim.join([1])),
    "leave": Operation(_joined, lambda stage: stage.victim.leave()),
    "reap": Operation(_joined, lambda stage: stage.victim.reap_dead(), one_is_dead=True),
    "see a topic grow": Operation(_grown, lambda stage: stage.victim.refresh(stage.rig.count_of)),
    "reset offsets": Operation(_all_left, _reset, deletes=frozenset({(1, 1)})),
}


def take_over(stage: Stage, heir: GroupMembership) -> None:
    """What a member does that goes on: proves deaths, follows the plan, commits."""
    heir.reap_dead()
    if not heir.joined:
        heir.join(TOPICS)
    for _ in range(3):
        if heir.needs_rebalance:
            poll(stage.rig, heir)
    try:
        stage.commit(heir, AFTER)
    except CommitFailedError as error:
        raise AssertionError(f"an owner may not commit: {error}") from error
