"""A member dies before each effect of an operation; others take over, and may die of that too."""

import logging
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from bus.assignment import Partition
from bus.check.committed import check_offsets
from bus.check.damage import Findings
from bus.check.volatile import check_members
from bus.group import GroupMembership
from tests.groups.rig import BUS_ID, GROUP, settle
from tests.steps import effects
from tests.steps.group_stage import (
    AFTER,
    BEFORE,
    DURING,
    OPERATIONS,
    TOPICS,
    Operation,
    Stage,
    take_over,
)

#: More than any operation here has.
EFFECTS_MAX = 5000


@dataclass
class Swept:
    """What was done for one operation."""

    name: str
    effects: int = 0
    kills: int = 0
    second_kills: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


def sweep(
    name: str, library: Path, path: Path, *, stride: int, from_every: int = 0, later: int = 1
) -> Swept:
    """Deaths before every `stride`-th effect. From every `from_every`-th of the states that they
    leave, the heir dies as well, before each `later`-th of its own effects."""
    found = Swept(name)
    began = time.monotonic()
    path.mkdir()
    stage = Stage(path)
    operation = OPERATIONS[name]
    operation.prepare(stage)
    stage.remember()
    try:
        trial = Trial(stage, operation, library, found)
        trial.sweep(stride, from_every, later)
    finally:
        stage.close()
    found.seconds = time.monotonic() - began
    return found


class Trial:
    """The deaths of one operation."""

    def __init__(self, stage: Stage, operation: Operation, library: Path, found: Swept) -> None:
        self._stage = stage
        self._operation = operation
        self._library = library
        self._found = found

    def sweep(self, stride: int, from_every: int = 0, later: int = 1) -> None:
        how, self._found.effects = self._die(0)
        assert how == "done", how
        self._judge("without a death", self._heirs())
        for death in range(1, self._found.effects + 1, stride):
            self._first(death)
            if from_every and death % from_every == 1 % from_every:
                self._second(death, later)

    def _first(self, death: int) -> None:
        how, _ = self._die(death)
        self._found.kills += 1
        if how != "killed":
            self._note(f"before effect {death}: {how}")
        self._judge(f"before effect {death}", self._heirs())

    def _second(self, death: int, stride: int) -> None:
        """The heir dies before its own effects."""
        for again in range(1, EFFECTS_MAX, stride):
            self._die(death)
            where = f"before effect {death}, and its heir before {again}"
            how, _ = self._act(self._stage.survivor, again)
            self._found.second_kills += how == "killed"
            if how not in ("killed", "done"):
                self._note(f"{where}: {how}")
            self._stage.die(self._stage.survivor)  # its process has ended, one way or the other
            self._judge(where, [] if self._operation.one_is_dead else [self._stage.bystander])
            if how != "killed":
                return

    def _heirs(self) -> list[GroupMembership]:
        stage = self._stage
        return (
            [stage.survivor] if self._operation.one_is_dead else [stage.survivor, stage.bystander]
        )

    def _die(self, death: int) -> tuple[str, int]:
        """Everything as before, then the victim acts, and dies."""
        stage = self._stage
        stage.restore()
        if self._operation.one_is_dead:
            stage.die(stage.bystander)
        ended = effects.run(
            self._library,
            death,
            lambda: take_on(stage.victim),
            lambda _: self._operation.act(stage),
        )
        stage.die(stage.victim)
        return ended

    def _act(self, heir: GroupMembership, death: int) -> tuple[str, int]:
        return effects.run(
            self._library, death, lambda: take_on(heir), lambda _: take_over(self._stage, heir)
        )

    def _judge(self, where: str, heirs: list[GroupMembership]) -> None:
        def prepare() -> None:
            for heir in heirs:
                take_on(heir)

        deletes = self._operation.deletes
        how, _ = effects.run(None, 0, prepare, lambda _: judge(self._stage, heirs, deletes))
        if how != "done":
            self._note(f"{where}: {how}")

    def _note(self, text: str) -> None:
        self._found.violations.append(f"{self._found.name}, {text}")


def take_on(member: GroupMembership) -> None:
    """This process is that member now."""
    logging.disable()
    member._pid = os.getpid()


def judge(stage: Stage, heirs: list[GroupMembership], deletes: Collection[Partition] = ()) -> None:
    """Raises AssertionError unless the heirs come to share everything, and can commit."""
    before = stage.committed()
    assert set(before.values()) <= {BEFORE, DURING, AFTER}, before
    for partition, offset in stage.begin.items():
        assert partition in deletes or before.get(partition, -1) >= offset, "a commit went back"
    assert not damages(stage)
    heirs = heirs or [GroupMembership(stage.rig.client(8), GROUP)]
    heirs[0].reap_dead()
    for heir in heirs:
        if not heir.joined:
            heir.join(TOPICS)
    settle(stage.rig, *heirs)
    _check_shared(stage, heirs)
    assert stage.committed() == before, "a take-over changed commits"
    for heir in heirs:
        stage.commit(heir, AFTER)
    partitions = {(topic, n) for topic, count in stage.rig.counts.items() for n in range(count)}
    assert stage.committed() == dict.fromkeys(partitions, AFTER)
    newcomer = GroupMembership(stage.rig.client(9), GROUP)
    newcomer.join(TOPICS)
    settle(stage.rig, *heirs, newcomer)
    _check_shared(stage, [*heirs, newcomer])
    assert not damages(stage)


def _check_shared(stage: Stage, members: list[GroupMembership]) -> None:
    table = stage.rig.members()
    assert not table.needs_repair
    assert sorted(one.slot for one in table.members()) == sorted(one._me.slot for one in members)
    count = sum(stage.rig.counts.values())
    owners = [entry for entry in table.owners.entries() if entry.owner is not None]
    assert len({entry.partition for entry in owners}) == len(owners) == count
    assert sum(len(one.owned) for one in members) == count
    assert all(one.owned for one in members)


def damages(stage: Stage) -> list[str]:
    """What `bus check` finds in the group's two files."""
    findings = Findings(GROUP)
    group = check_offsets(stage.offsets_path, GROUP, BUS_ID, findings)
    if group:
        check_members(stage.rig.path / "hot", [group], BUS_ID, findings)
    return [str(one) for one in findings.damages]
