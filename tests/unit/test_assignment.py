"""Assignment: who gets which partition, for every strategy, over random groups."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.assignment import STRATEGIES, Partition, assign

COUNTS = st.dictionaries(st.integers(1, 6), st.integers(0, 9), max_size=6)
MEMBERS = st.dictionaries(st.integers(0, 20), st.sets(st.integers(1, 6)), max_size=8)
EQUAL_MEMBERS = st.sets(st.integers(0, 20), min_size=1, max_size=8)
STRATEGY = st.sampled_from(sorted(STRATEGIES))


def partitions_of(counts: Mapping[int, int], topics: set[int]) -> set[Partition]:
    return {(t, n) for t, total in counts.items() if t in topics for n in range(total)}


@given(STRATEGY, MEMBERS, COUNTS)
def test_every_partition_with_a_subscriber_goes_to_exactly_one(strategy, members, counts):
    plan = assign(strategy, members, counts)
    given_out = [one for part in plan.values() for one in part]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) == partitions_of(counts, set().union(*members.values()))
    assert set(plan) == set(members)


@given(STRATEGY, MEMBERS, COUNTS)
def test_nobody_gets_a_topic_he_does_not_read(strategy, members, counts):
    for member, part in assign(strategy, members, counts).items():
        assert {topic for topic, _ in part} <= members[member]


@given(STRATEGY, MEMBERS, COUNTS, st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_does_not_matter(strategy, members, counts, random):
    first = assign(strategy, members, counts)
    shuffled = list(members.items())
    random.shuffle(shuffled)
    again = assign(
        strategy,
        {member: sorted(topics, reverse=True) for member, topics in shuffled},
        dict(reversed(counts.items())),
        first,
    )
    if strategy != "sticky":
        assert again == first
    assert assign(strategy, dict(shuffled), counts) == first


@given(st.sampled_from(["roundrobin", "sticky"]), EQUAL_MEMBERS, COUNTS)
def test_loads_differ_by_one_at_most_when_all_read_the_same(strategy, names, counts):
    plan = assign(strategy, {name: set(counts) for name in names}, counts)
    loads = [len(part) for part in plan.values()]
    assert max(loads) - min(loads) <= 1


@given(EQUAL_MEMBERS, COUNTS)
def test_range_gives_neighbours_of_each_topic_and_the_first_get_one_more(names, counts):
    plan = assign("range", {name: set(counts) for name in names}, counts)
    for topic, total in counts.items():
        dealt = [[n for t, n in sorted(plan[name]) if t == topic] for name in sorted(names)]
        assert [n for part in dealt for n in part] == list(range(total))
        sizes = [len(part) for part in dealt]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] - sizes[-1] <= 1


def test_round_robin_deals_over_topic_borders_as_kafka_documents_it():
    plan = assign("roundrobin", {"a": [0, 1], "b": [0, 1]}, {0: 3, 1: 3})
    assert plan == {"a": {(0, 0), (0, 2), (1, 1)}, "b": {(0, 1), (1, 0), (1, 2)}}


def test_round_robin_passes_over_those_who_do_not_read_a_topic():
    plan = assign("roundrobin", {"a": [0], "b": [0, 1], "c": [0, 1, 2]}, {0: 1, 1: 2, 2: 3})
    assert plan["a"] == {(0, 0)}
    assert plan["b"] == {(1, 0)}
    assert plan["c"] == {(1, 1), (2, 0), (2, 1), (2, 2)}


# ------------------------------------------------------------------------------------ sticky


@given(MEMBERS, MEMBERS, COUNTS, COUNTS)
def test_sticky_is_stable_once_it_is_reached(before, after, old_counts, new_counts):
    plan = assign("sticky", after, new_counts, assign("sticky", before, old_counts))
    assert assign("sticky", after, new_counts, plan) == plan


@given(EQUAL_MEMBERS, EQUAL_MEMBERS, COUNTS)
def test_sticky_moves_no_more_than_balance_needs(before, after, counts):
    topics = set(counts)
    old = assign("sticky", dict.fromkeys(before, topics), counts)
    new = assign("sticky", dict.fromkeys(after, topics), counts, old)
    kept = sum(len(new[name] & old[name]) for name in before & after)
    assert kept == most_that_can_stay([len(old.get(name, ())) for name in after])(
        sum(counts.values())
    )


def most_that_can_stay(loads: list[int]):
    """Oracle: the largest loads get the larger quotas, each keeps what its quota allows."""

    def of(total: int) -> int:
        share, extra = divmod(total, len(loads))
        ordered = sorted(loads, reverse=True)
        return sum(min(load, share + (i < extra)) for i, load in enumerate(ordered))

    return of


@given(MEMBERS, COUNTS)
def test_sticky_leaves_no_move_that_would_make_loads_more_equal(members, counts):
    plan = assign("sticky", members, counts)
    for giver, part in plan.items():
        for taker, topics in members.items():
            if len(plan[taker]) < len(part) - 1:
                assert not {topic for topic, _ in part} & topics, (giver, taker)


def test_sticky_moves_along_a_chain_when_no_single_move_helps():
    # b is full of topic 1 and could take topic 2 from a; only c, who is empty, reads topic 1.
    members = {"a": {2}, "b": {1, 2}, "c": {1}}
    owned = {"a": {(2, 0), (2, 1)}, "b": {(1, 0)}, "c": set()}
    plan = assign("sticky", members, {1: 1, 2: 2}, owned)
    assert sorted(len(part) for part in plan.values()) == [1, 1, 1]
    assert plan["c"] == {(1, 0)}


def test_sticky_takes_only_from_those_who_have_more_when_one_joins():
    owned = {1: {(1, 0), (1, 1), (1, 2)}, 2: {(1, 3), (1, 4), (1, 5)}}
    plan = assign("sticky", {1: {1}, 2: {1}, 3: {1}}, {1: 6}, owned)
    assert plan[1] < owned[1]
    assert plan[2] < owned[2]
    assert len(plan[3]) == 2


def test_sticky_gives_a_partition_with_two_owners_to_one_of_them():
    plan = assign("sticky", {1: {1}, 2: {1}}, {1: 2}, {1: {(1, 0)}, 2: {(1, 0)}})
    assert plan == {1: {(1, 0)}, 2: {(1, 1)}}


def test_sticky_forgets_what_no_longer_exists():
    plan = assign("sticky", {1: {1}}, {1: 1}, {1: {(1, 0), (1, 7), (9, 0)}, 5: {(1, 0)}})
    assert plan == {1: {(1, 0)}}


@given(STRATEGY, COUNTS)
def test_a_group_without_members_gets_nothing(strategy, counts):
    assert assign(strategy, {}, counts) == {}


def test_an_unknown_strategy_is_named_together_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'fair'.*range, roundrobin, sticky"):
        assign("fair", {}, {})
