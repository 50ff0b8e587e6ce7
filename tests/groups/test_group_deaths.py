"""Members that are killed or stopped, at every store they make, as real processes."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bus.errors import CommitFailedError, LockTimeoutError
from bus.group import GroupMembership
from bus.group_admin import describe_group, mark_deleted, reset_offsets
from bus.liveness import death_probe
from bus.members import MemberTable
from tests.groups.rig import GROUP, DyingTable, Rig, child, poll, settle
from tests.waiting import eventually

TOPICS = (1, 2)
PARTITIONS = 7
#: more stores than any single operation here makes
STORES_MAX = 400


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, {1: 4, 2: 3})
    yield made
    os.close(made.hot_fd)


# --------------------------------------------------------------- death at every single store

Operation = Callable[[Rig, GroupMembership], None]


def join(rig: Rig, member: GroupMembership) -> None:
    member.join(TOPICS)


def plan(rig: Rig, member: GroupMembership) -> None:
    member.plan(rig.count_of)


def acquire(rig: Rig, member: GroupMembership) -> None:
    member.acquire()


def release(rig: Rig, member: GroupMembership) -> None:
    member.release(member.owned)


def resubscribe(rig: Rig, member: GroupMembership) -> None:
    member.join([1])


def leave(rig: Rig, member: GroupMembership) -> None:
    member.leave()


def reap(rig: Rig, member: GroupMembership) -> None:
    member.reap_dead()


#: what the victim does before, and the operation it dies in
OPERATIONS: dict[str, tuple[list[Operation], Operation]] = {
    "join": ([], join),
    "plan": ([join], plan),
    "acquire": ([join, plan], acquire),
    "release": ([join, plan, acquire], release),
    "resubscribe": ([join, plan, acquire], resubscribe),
    "leave": ([join, plan, acquire], leave),
    "reap": ([join, plan, acquire], reap),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_death_at_any_store_leaves_a_group_that_the_others_can_use(tmp_path, name):
    before, operation = OPERATIONS[name]
    for last in range(STORES_MAX):
        path = tmp_path / str(last)
        path.mkdir()
        rig = Rig(path, {1: 4, 2: 3})
        survivor = rig.join(*TOPICS)
        bystander = rig.join(*TOPICS)
        settle(rig, survivor, bystander)
        if name == "reap":
            bystander._client.die()
        died = dies_at(rig, before, operation, last)
        if name != "reap":
            check_usable(rig, survivor, bystander)
        else:
            check_usable(rig, survivor)
        os.close(rig.hot_fd)
        if not died:
            assert last > 0
            return
    raise AssertionError(f"{name} makes more than {STORES_MAX} stores")


def dies_at(rig: Rig, before: list[Operation], operation: Operation, last: int) -> bool:
    """Run the operation in a process that is killed at store number `last`; False if it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            member = GroupMembership(rig.client(), GROUP)
            for step in before:
                step(rig, member)
            table = member._members
            member._tables.members = MemberTable(DyingTable(table._table, 10**9))
            dying = DyingTable(table._table, last)
            member._tables.members._table = dying
            member._tables.members.owners._table = dying
            operation(rig, member)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def check_usable(rig: Rig, *survivors: GroupMembership) -> None:
    """The survivors, by their own proof of death, come to share everything, and can commit."""
    survivors[0].reap_dead()
    assert sum(map(len, settle(rig, *survivors))) == PARTITIONS
    table = rig.members()
    assert [one.slot for one in table.members()] == [one._me.slot for one in survivors]
    owners = [entry for entry in table.owners.entries() if entry.owner is not None]
    assert len({entry.partition for entry in owners}) == len(owners) == PARTITIONS
    for survivor in survivors:
        survivor.commit(dict.fromkeys(survivor.owned, (1, "")))
    newcomer = rig.join(*TOPICS)
    assert sum(map(len, settle(rig, *survivors, newcomer))) == PARTITIONS
    assert newcomer.owned


# ------------------------------------------------------------------------ the rows, by name


def half_done(rig: Rig, work: Callable[[MemberTable], None]) -> None:
    """A process takes the mutex, does `work` and is killed while it holds it."""
    pid = os.fork()
    if pid == 0:
        table = rig.members()
        with table.locked():
            work(table)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_owners_that_name_a_free_slot_are_cleared_by_repair(rig):
    member = rig.join(1)
    settle(rig, member)
    generation = member.generation

    def work(table: MemberTable) -> None:
        table.owners.release(0)
        table.owners.claim(0, 200)

    half_done(rig, work)
    table = rig.members()
    with table.locked():
        assert all(entry.owner != 200 for entry in table.owners.entries())
    assert member.generation == generation + 1
    assert len(settle(rig, member)[0]) == 4


def test_a_joiner_does_not_inherit_what_still_names_its_slot(rig):
    # A repair that a signal cut short has left an owner word that names a free slot.
    member = rig.join(1)
    settle(rig, member)
    member.leave()
    table = rig.members()
    with table.locked():
        table.owners.set_targets({0: [(1, 0)]})
        table.owners.claim(0, 0)
    joiner = rig.join(2)
    assert joiner._me.slot == 0
    with pytest.raises(CommitFailedError):
        joiner.commit({(1, 0): (1, "")})


def test_a_plan_without_planned_is_made_again(rig):
    member = rig.join(1)

    def work(table: MemberTable) -> None:
        table.owners.set_targets({7: [(1, 0), (1, 1)], 9: [(3, 3)]})

    half_done(rig, work)
    assert not rig.members().planned
    assert len(settle(rig, member)[0]) == 4


def test_a_holder_that_dies_without_a_change_costs_a_generation_only(rig):
    member = rig.join(1)
    settle(rig, member)
    half_done(rig, lambda table: None)
    member.commit({(1, 0): (5, "")})
    assert member.committed([(1, 0)])[1, 0].offset == 5
    assert member.needs_rebalance
    assert len(settle(rig, member)[0]) == 4


def test_a_repairer_that_dies_leaves_the_repair_to_the_next_one(rig):
    member = rig.join(1)
    settle(rig, member)
    half_done(rig, lambda table: table.owners.claim(0, 200))
    pid = os.fork()
    if pid == 0:
        table = rig.members()
        table._repair = lambda: os.kill(os.getpid(), signal.SIGKILL)
        with table.locked():
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    member.commit({})
    assert len(settle(rig, member)[0]) == 4
    assert all(entry.owner != 200 for entry in rig.members().owners.entries())


def test_an_exception_inside_the_mutex_lets_go_of_it(rig):
    table = rig.members(lock_timeout_ms=100)
    with pytest.raises(KeyboardInterrupt), table.locked():
        raise KeyboardInterrupt
    with table.locked():
        assert table._table.owner_tid


def test_a_repair_that_a_signal_cuts_short_is_left_to_the_next_one(rig):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
    member = rig.join(1)
    settle(rig, member)
    half_done(rig, lambda table: table.owners.claim(0, 200))
    interrupted, table = rig.members(), rig.members()
    interrupted._repair = partial(signal.raise_signal, signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt), interrupted.locked():
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert table._table.owner_tid == 0
    assert table.needs_repair
    with table.locked():
        assert all(entry.owner != 200 for entry in table.owners.entries())
    assert not table.needs_repair
    assert len(settle(rig, member)[0]) == 4


# ------------------------------------------------------------------- takeover and fencing


def member_process(rig: Rig, slot: int) -> Callable[[], None]:
    def run() -> None:
        member = GroupMembership(rig.client(slot), GROUP)
        member.join(TOPICS)
        for _ in range(20):
            poll(rig, member)

    return run


def test_a_killed_member_is_taken_over_by_whoever_proves_its_death(rig):
    heir = rig.join(*TOPICS)
    with child(member_process(rig, 90)) as pid:
        settle(rig, heir)
        assert heir.pending or len(heir.owned) < PARTITIONS
        assert heir.reap_dead() == 0
        os.kill(pid, signal.SIGKILL)
        # The kernel lets go of the byte when it has torn the process down.
        eventually(lambda: heir.reap_dead() == 1)
    assert len(settle(rig, heir)[0]) == PARTITIONS


def test_a_client_slot_taken_by_somebody_else_proves_the_death_too(rig):
    member, heir = rig.join(*TOPICS), rig.join(*TOPICS)
    settle(rig, member, heir)
    member._client.die()
    rig.client(member._client.slot.slot)
    assert heir.reap_dead() == 1
    assert len(settle(rig, heir)[0]) == PARTITIONS
    with pytest.raises(CommitFailedError):
        member.commit({(1, 0): (1, "")})


def test_a_stopped_member_is_not_dead_and_keeps_what_it_has(rig):
    heir = rig.join(*TOPICS)
    settle(rig, heir)
    with child(member_process(rig, 90)) as pid:
        os.kill(pid, signal.SIGSTOP)
        for _ in range(3):
            poll(rig, heir)
        assert heir.reap_dead() == 0
        assert len(rig.members().members()) == 2
        os.kill(pid, signal.SIGCONT)


def test_dead_members_do_not_keep_an_admin_or_a_standalone_consumer_out(rig):
    table = rig.members()
    lock_fd = rig.open_clients_lock()
    death = death_probe(lock_fd, rig.control)
    for use in (
        lambda: GroupMembership(rig.client(), GROUP).commit({(1, 0): (1, "")}),
        lambda: reset_offsets(table, rig.offsets(), {(1, 0): 2}, death),
        lambda: mark_deleted(table, death),
    ):
        dead = rig.join(1)
        settle(rig, dead)
        dead._client.die()
        use()
        assert table.members() == []
    os.close(lock_fd)


def test_a_stopped_holder_is_named_with_its_pid_and_state(rig):
    table = rig.members(lock_timeout_ms=100)

    def hold() -> None:
        # Kept for ever: the kernel cannot see the death of a holder that has unmapped its lock.
        held.append(rig.members())
        held[0]._table.lock(1000)

    held: list[MemberTable] = []
    with child(hold) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        with pytest.raises(LockTimeoutError, match=rf"pid {pid} .*stopped.*kill"):
            describe_group(table, GROUP)
        os.kill(pid, signal.SIGCONT)
    assert describe_group(table, GROUP).state == "Empty"


def test_a_forked_child_is_no_member_and_takes_nothing_away(rig):
    member = rig.join(1)
    settle(rig, member)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not member.joined
            assert not member.needs_rebalance
            try:
                member.commit({(1, 0): (1, "")})
            except CommitFailedError:
                code = 0
            member.close()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(rig.members().members()) == 1
    member.commit({(1, 0): (2, "")})
