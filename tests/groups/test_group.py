"""A group whose members are all alive: joining, handing over, leaving, committing."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.errors import (
    BrokerNotRunningError,
    BusConfigurationError,
    CommitFailedError,
    CorruptSegmentError,
    GroupIdNotFoundError,
    NonEmptyGroupError,
    OffsetMetadataTooLargeError,
    UnknownMemberIdError,
)
from bus.group import GroupMembership
from bus.group_admin import describe_group, mark_deleted, remove_client, reset_offsets
from bus.members import MemberTable
from bus.members_file import create_members_file
from bus.native.core import LAYOUT
from tests.groups.rig import BUS_ID, GROUP, GROUP_ID, Rig, poll, settle


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, {1: 4, 2: 3})
    yield made
    os.close(made.hot_fd)


def no_one_dead(slot: int, generation: int) -> bool:
    return False


def everything(*topics: int, rig: Rig) -> frozenset:
    return frozenset((topic, n) for topic in topics for n in range(rig.counts[topic]))


# ------------------------------------------------------------------------------- assignment


def test_the_first_poll_of_a_single_member_gives_it_everything(rig):
    member = rig.join(1, 2)
    assert member.needs_rebalance
    assert member.plan(rig.count_of) == frozenset()
    assert member.acquire() == everything(1, 2, rig=rig)
    assert not member.needs_rebalance
    assert not member.pending


def test_a_partition_moves_only_when_its_owner_lets_go(rig):
    old = rig.join(1)
    settle(rig, old)
    new = rig.join(1)
    poll(rig, new)
    assert new.owned == frozenset()
    assert new.pending
    revoked = old.plan(rig.count_of)
    assert len(revoked) == 2
    poll(rig, new)
    assert new.owned == frozenset()
    old.release(revoked)
    assert old.acquire() == frozenset()
    poll(rig, new)
    assert new.owned == revoked
    assert not new.pending
    assert not old.needs_rebalance


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "sticky"])
def test_members_that_come_and_go_always_share_everything(rig, strategy):
    members: list[GroupMembership] = []
    for _ in range(6):
        members.append(rig.join(1, 2, strategy=strategy))
        check_shared(rig, members)
    while len(members) > 1:
        members.pop(len(members) // 2).leave()
        check_shared(rig, members)


def check_shared(rig: Rig, members: list[GroupMembership]) -> None:
    owned = settle(rig, *members)
    assert sum(len(part) for part in owned) == 7
    assert frozenset().union(*owned) == everything(1, 2, rig=rig)


def test_a_plan_that_is_being_acted_upon_does_not_change(rig):
    # Owners change while members act one after the other: all must follow the plan of the start.
    members = [rig.join(1, 2) for _ in range(3)]
    settle(rig, *members)
    late = [rig.join(1, 2) for _ in range(3)]
    for order in (late, members, late, members):
        for member in order:
            poll(rig, member)
    owned = [one.owned for one in members + late]
    assert sorted(map(len, owned)) == [1, 1, 1, 1, 1, 2]
    assert frozenset().union(*owned) == everything(1, 2, rig=rig)


def test_members_with_different_topics_get_only_theirs(rig):
    first, second = rig.join(1), rig.join(2)
    assert settle(rig, first, second) == [everything(1, rig=rig), everything(2, rig=rig)]


def test_a_changed_subscription_gives_up_the_old_topic(rig):
    member = rig.join(1)
    settle(rig, member)
    member.join([2])
    assert member.plan(rig.count_of) == everything(1, rig=rig)
    settle(rig, member)
    assert member.owned == everything(2, rig=rig)


def test_joining_again_with_the_same_topics_changes_nothing(rig):
    member = rig.join(1)
    settle(rig, member)
    member.join([1])
    assert not member.needs_rebalance


def test_new_partitions_are_given_out_after_refresh_and_only_once(rig):
    first, second = rig.join(1), rig.join(1)
    settle(rig, first, second)
    rig.counts[1] = 6
    assert first.refresh(rig.count_of)
    owned = settle(rig, first, second)
    assert frozenset().union(*owned) == everything(1, rig=rig)
    assert not second.refresh(rig.count_of)


def test_a_plan_computed_from_an_old_generation_is_not_written(rig):
    first = rig.join(1)
    others: list[GroupMembership] = []

    def count_while_another_joins_and_plans(topic: int) -> int:
        if not others:
            others.append(rig.join(1))
            poll(rig, others[0])
            assert len(others[0].owned) == 2
        return rig.count_of(topic)

    first.plan(count_while_another_joins_and_plans)
    assert len(first.acquire()) == 2
    assert not first.pending
    assert not others[0].needs_rebalance


def test_of_two_plans_for_one_generation_the_first_one_counts(rig):
    first, second = rig.join(1), rig.join(1)

    def count_while_the_other_plans(topic: int) -> int:
        poll(rig, second)
        return 1

    first.plan(count_while_the_other_plans)
    first.acquire()
    assert [len(first.owned), len(second.owned)] == [2, 2]
    assert not first.needs_rebalance
    assert not second.needs_rebalance


def test_more_partitions_than_a_group_can_have_are_refused_by_number(rig):
    rig.counts[1] = 4097
    member = rig.join(1)
    with pytest.raises(BusConfigurationError, match="4096 partitions"):
        member.plan(rig.count_of)
    rig.counts[1] = 4096
    assert len(settle(rig, member)[0]) == 4096


def test_more_topics_than_a_member_can_have_are_refused(rig):
    with pytest.raises(BusConfigurationError, match="224 topics"):
        rig.join(*range(1, 227))


def test_an_unknown_strategy_is_refused_before_anything_else(rig):
    with pytest.raises(BusConfigurationError, match="range, roundrobin, sticky"):
        rig.join(1, strategy="random")


# ------------------------------------------------------------------------------- doorbells


def test_join_release_and_leave_ring_those_who_wait(rig):
    client = rig.client()
    client.make_doorbell()
    try:
        waiter = GroupMembership(client, GROUP)
        waiter.join([1])
        settle(rig, waiter)
        other = rig.join(1)
        assert client.bells.wait(client.slot.slot, 5000)
        poll(rig, waiter)
        settle(rig, waiter, other)
        assert not client.bells.wait(client.slot.slot, 50)
        other.leave()
        assert client.bells.wait(client.slot.slot, 5000)
    finally:
        client.remove_doorbell()


# -------------------------------------------------------------------------- leave and fences


def test_leaving_frees_everything_at_once_and_twice_is_once(rig):
    old, new = rig.join(1), rig.join(1)
    settle(rig, old, new)
    old.leave()
    old.leave()
    assert old.owned == frozenset()
    assert not old.needs_rebalance
    assert settle(rig, new) == [everything(1, rig=rig)]


def test_a_closed_membership_can_be_closed_again(rig):
    member = rig.join(1)
    member.close()
    member.close()
    assert rig.members().members() == []


def test_only_the_owner_commits_and_a_refusal_stores_nothing(rig):
    first, second = rig.join(1), rig.join(1)
    settle(rig, first, second)
    first.commit(dict.fromkeys(first.owned, (7, "m")))
    mine, other = min(first.owned), min(second.owned)
    with pytest.raises(CommitFailedError, match=rf"partition {other[1]} of topic number 1 .* pid"):
        first.commit({mine: (8, ""), other: (8, "")})
    assert first.committed([mine, other]) == {mine: (7, "m", -1), other: None}


def test_a_member_that_was_removed_while_it_slept_cannot_commit_or_release(rig):
    zombie = rig.join(1)
    settle(rig, zombie)
    client = zombie._client
    table = rig.members()
    assert remove_client(table, client.bells, client.slot.slot, client.slot.generation) == 1
    heir = rig.join(1)
    settle(rig, heir)
    heir.commit({(1, 0): (100, "")})
    with pytest.raises(CommitFailedError, match="no longer in group"):
        zombie.commit({(1, 0): (50, "")})
    with pytest.raises(UnknownMemberIdError):
        zombie.release([(1, 0)])
    assert zombie.needs_rebalance
    with pytest.raises(UnknownMemberIdError, match="join again"):
        zombie.plan(rig.count_of)
    assert heir.committed([(1, 0)])[1, 0] == (100, "", -1)
    zombie.leave()
    assert heir.owned == everything(1, rig=rig)
    assert len(table.members()) == 1
    zombie.join([1])
    assert len(settle(rig, zombie, heir)[0]) == 2


def test_the_same_slot_taken_again_is_another_member(rig):
    first = rig.join(1)
    old_id = first.member_id
    client = first._client
    remove_client(rig.members(), client.bells, client.slot.slot, client.slot.generation)
    second = rig.join(1)
    assert second._me.slot == first._me.slot
    assert second.member_id != old_id
    with pytest.raises(CommitFailedError):
        first.commit({(1, 0): (1, "")})


def test_a_standalone_consumer_commits_only_while_the_group_is_empty(rig):
    standalone = GroupMembership(rig.client(), GROUP)
    standalone.commit({(1, 0): (3, "by hand")})
    member = rig.join(1)
    with pytest.raises(CommitFailedError, match=rf"has members \(pid {os.getpid()}\)"):
        standalone.commit({(1, 0): (4, "")})
    member.leave()
    standalone.commit({(1, 0): (5, "")})
    assert standalone.committed([(1, 0), (9, 9)]) == {(1, 0): (5, "", -1), (9, 9): None}


def test_too_long_metadata_is_refused_before_the_lock(rig):
    member = rig.join(1)
    settle(rig, member)
    with pytest.raises(OffsetMetadataTooLargeError):
        member.commit({(1, 0): (1, "x" * 193)})


# ------------------------------------------------------------------------- admin and broker


def test_a_description_tells_who_owns_what_and_whether_the_group_has_settled(rig):
    table = rig.members()
    assert describe_group(table, GROUP).state == "Empty"
    first, second = rig.join(1), rig.join(1, strategy="range")
    assert describe_group(table, GROUP).state == "PreparingRebalance"
    settle(rig, first, second)
    found = describe_group(table, GROUP)
    assert (found.state, found.group, found.group_id) == ("Stable", GROUP, GROUP_ID)
    assert [one.pid for one in found.members] == [os.getpid()] * 2
    assert [one.client_id for one in found.members] == ["client-0", "client-1"]
    assert [set(one.partitions) for one in found.members] == [first.owned, second.owned]
    assert [one.member_id for one in found.members] == [first.member_id, second.member_id]
    assert [one.strategy for one in found.members] == ["sticky", "range"]
    assert first.metadata() == (GROUP, found.generation, first.member_id, None)


def test_offsets_are_reset_only_while_nobody_reads(rig):
    table, offsets = rig.members(), rig.offsets()
    member = rig.join(1)
    with pytest.raises(NonEmptyGroupError, match=rf"pid {os.getpid()} \(client-0\)"):
        reset_offsets(table, offsets, {(1, 0): 0}, no_one_dead)
    member.leave()
    reset_offsets(table, offsets, {(1, 0): 10, (1, 1): 20}, no_one_dead)
    reset_offsets(table, offsets, {(1, 0): None}, no_one_dead)
    assert member.committed([(1, 0), (1, 1)]) == {(1, 0): None, (1, 1): (20, "", -1)}


def test_a_deleted_group_takes_no_members_and_a_new_one_is_found_by_join(rig):
    table = rig.members()
    handle = GroupMembership(rig.client(), GROUP)
    member = rig.join(1)
    with pytest.raises(NonEmptyGroupError):
        mark_deleted(table, no_one_dead)
    member.leave()
    mark_deleted(table, no_one_dead)
    assert describe_group(table, GROUP).state == "Dead"
    with pytest.raises(GroupIdNotFoundError, match="deleted"):
        handle.join([1])
    create_members_file(rig.hot_fd, bus_id=BUS_ID, group_id=GROUP_ID)
    handle.join([1])
    assert settle(rig, handle) == [everything(1, rig=rig)]


def test_a_group_that_a_stop_takes_away_while_it_is_opened_says_that_it_was_the_stop(rig, tmp_path):
    (tmp_path / f"hot/group-{GROUP_ID}.ctl").unlink()
    with pytest.raises(GroupIdNotFoundError):
        rig.join(1)
    rig.control.store32_release(LAYOUT["bus_control.stopping"], 1)
    with pytest.raises(BrokerNotRunningError, match="was stopped"):
        rig.join(1)


def test_a_table_that_is_not_there_or_not_one_is_named(rig, tmp_path):
    with pytest.raises(GroupIdNotFoundError, match="number 99"):
        MemberTable.open(rig.hot_fd, 99)
    with open(tmp_path / f"hot/group-{GROUP_ID}.ctl", "r+b") as file:
        file.write(b"nonsense")
    with pytest.raises(CorruptSegmentError, match="magic"):
        rig.members()


def test_threads_of_one_process_exclude_each_other(rig):
    table = rig.members()
    inside = []

    def work() -> None:
        for _ in range(200):
            with table.locked():
                inside.append(1)
                assert len(inside) == 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []
