"""Who of a group reads which partition: range, round robin and sticky, as pure functions.

Semantics are Kafka's (`org.apache.kafka.clients.consumer` RangeAssignor, RoundRobinAssignor and
StickyAssignor), with topics ordered by id and members by the order of their keys.

Guarantees: every partition of a topic that somebody subscribes to is given to exactly one of its
subscribers; the result depends on the arguments' values only, never on their iteration order.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

#: one partition of one topic: (topic id, partition number)
Partition = tuple[int, int]

#: strategy names and the numbers by which the members table knows them
STRATEGIES = {"range": 1, "roundrobin": 2, "sticky": 3}

# A member's key: anything hashable whose values can be sorted.
M = TypeVar("M", bound=Any)
_Plan = dict[M, set[Partition]]


def assign(
    strategy: str,
    members: Mapping[M, Collection[int]],
    counts: Mapping[int, int],
    owned: Mapping[M, Collection[Partition]] | None = None,
) -> dict[M, frozenset[Partition]]:
    """Give every partition to one member.

    `members` maps each member to the topic ids it subscribes to, `counts` each topic id to its
    number of partitions (a topic that is missing has none), `owned` each member to what it has
    now (only "sticky" looks at it). Raises ValueError for an unknown strategy.
    """
    if strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise ValueError(f"assignment strategy {strategy!r} is not known; use one of: {known}")
    subscribers = _subscribers(members, counts)
    plan: _Plan[M] = {member: set() for member in sorted(members)}
    if strategy == "range":
        _assign_ranges(plan, subscribers, counts)
    elif strategy == "roundrobin":
        _assign_in_turn(plan, subscribers, counts)
    else:
        _assign_sticky(plan, subscribers, counts, owned or {})
    return {member: frozenset(partitions) for member, partitions in plan.items()}


def _subscribers(
    members: Mapping[M, Collection[int]], counts: Mapping[int, int]
) -> dict[int, list[M]]:
    """Topic id -> its subscribers in order; only topics that have partitions and subscribers."""
    found: dict[int, list[M]] = {}
    for member in sorted(members):
        for topic in set(members[member]):
            if counts.get(topic, 0) > 0:
                found.setdefault(topic, []).append(member)
    return dict(sorted(found.items()))


def _all_partitions(topics: Iterable[int], counts: Mapping[int, int]) -> list[Partition]:
    return [(topic, number) for topic in topics for number in range(counts[topic])]


def _assign_ranges(
    plan: _Plan[M], subscribers: Mapping[int, list[M]], counts: Mapping[int, int]
) -> None:
    """Per topic, neighbouring partitions to each member; the first ones get one more."""
    for topic, readers in subscribers.items():
        share, extra = divmod(counts[topic], len(readers))
        start = 0
        for index, member in enumerate(readers):
            end = start + share + (index < extra)
            plan[member].update((topic, number) for number in range(start, end))
            start = end


def _assign_in_turn(
    plan: _Plan[M], subscribers: Mapping[int, list[M]], counts: Mapping[int, int]
) -> None:
    """Deal all partitions out in order; a member that does not subscribe is passed over."""
    order = list(plan)
    turn = 0
    for partition in _all_partitions(subscribers, counts):
        readers = subscribers[partition[0]]
        while order[turn % len(order)] not in readers:
            turn += 1
        plan[order[turn % len(order)]].add(partition)
        turn += 1


# ------------------------------------------------------------------------------------- sticky
# Everybody keeps what he has, as far as balance allows; what is free goes to the least loaded;
# then partitions move from the more to the less loaded until no move makes the loads more equal.


def _assign_sticky(
    plan: _Plan[M],
    subscribers: Mapping[int, list[M]],
    counts: Mapping[int, int],
    owned: Mapping[M, Collection[Partition]],
) -> None:
    _keep_owned(plan, subscribers, counts, owned)
    readers = list(subscribers.values())
    if readers and all(one == readers[0] for one in readers):
        _trim_to_quota(plan, readers[0], sum(counts[topic] for topic in subscribers))
    taken: set[Partition] = set().union(*plan.values())
    free = [one for one in _all_partitions(subscribers, counts) if one not in taken]
    # The choosiest first: a partition that few may read cannot be placed elsewhere later.
    for partition in sorted(free, key=lambda one: (len(subscribers[one[0]]), one)):
        least = min(subscribers[partition[0]], key=lambda member: (len(plan[member]), member))
        plan[least].add(partition)
    _hand_down(plan, subscribers)
    while _balance_once(plan, subscribers):
        pass


def _keep_owned(
    plan: _Plan[M],
    subscribers: Mapping[int, list[M]],
    counts: Mapping[int, int],
    owned: Mapping[M, Collection[Partition]],
) -> None:
    """Keep what still exists and is still subscribed to; of two owners the first one keeps."""
    taken: set[Partition] = set()
    for member, kept in plan.items():
        for partition in sorted(owned.get(member, ())):
            topic, number = partition
            reads = member in subscribers.get(topic, ())
            if reads and 0 <= number < counts[topic] and partition not in taken:
                taken.add(partition)
                kept.add(partition)


def _trim_to_quota(plan: _Plan[M], readers: list[M], total: int) -> None:
    """Where all read the same, the final loads are known: cut down to them at once.

    Those who own most get the loads that are one larger, so that the fewest partitions move.
    """
    share, extra = divmod(total, len(readers))
    by_load = sorted(readers, key=lambda member: (-len(plan[member]), member))
    for index, member in enumerate(by_load):
        quota = share + (index < extra)
        plan[member] = set(sorted(plan[member])[:quota])


def _hand_down(plan: _Plan[M], subscribers: Mapping[int, list[M]]) -> None:
    """Every member, the fullest first, hands partitions straight to readers that have fewer.

    Only for speed: `_balance_once` alone finds loads as equal, in far more time for large groups.
    """
    smallest = min(map(len, plan.values()), default=0)
    for giver in sorted(plan, key=lambda member: (-len(plan[member]), member)):
        if len(plan[giver]) - 2 < smallest:
            return
        for partition in sorted(plan[giver], reverse=True):
            least = min(subscribers[partition[0]], key=lambda member: (len(plan[member]), member))
            if len(plan[least]) <= len(plan[giver]) - 2:
                plan[giver].remove(partition)
                plan[least].add(partition)


def _balance_once(plan: _Plan[M], subscribers: Mapping[int, list[M]]) -> bool:
    """Shift partitions along one chain, from a load to one smaller by two or more, if there is one.

    Repeating this ends: every shift lowers the sum of the squared loads, a whole number.
    """
    smallest = min(map(len, plan.values()), default=0)
    for giver in sorted(plan, key=lambda member: (-len(plan[member]), member)):
        if len(plan[giver]) - 2 < smallest:
            return False
        chain = _chain_to_smaller(plan, subscribers, giver)
        if chain:
            _shift(plan, subscribers, chain)
            return True
    return False


def _chain_to_smaller(
    plan: _Plan[M], subscribers: Mapping[int, list[M]], giver: M
) -> list[M] | None:
    """The shortest chain of members, each able to hand a partition to the next; else None.

    A chain is longer than two when the giver's topics are read by members that are full
    themselves but hold a partition of some other topic that the last one reads.
    """
    enough = len(plan[giver]) - 2
    came_from: dict[M, M | None] = {giver: None}
    queue = deque([giver])
    topics_seen: set[int] = set()
    while queue:
        member = queue.popleft()
        for topic in sorted({topic for topic, _ in plan[member]} - topics_seen):
            topics_seen.add(topic)
            new = [reader for reader in subscribers[topic] if reader not in came_from]
            for reader in new:
                came_from[reader] = member
            least = min(new, key=lambda one: (len(plan[one]), one), default=giver)
            if len(plan[least]) <= enough:
                return _path_to(least, came_from)
            queue.extend(new)
    return None


def _path_to(end: M, came_from: Mapping[M, M | None]) -> list[M]:
    path: list[M] = []
    member: M | None = end
    while member is not None:
        path.append(member)
        member = came_from[member]
    return path[::-1]


def _shift(plan: _Plan[M], subscribers: Mapping[int, list[M]], chain: list[M]) -> None:
    """Every member of the chain hands one partition to the next one."""
    for giver, taker in zip(chain[-2::-1], chain[:0:-1], strict=True):
        moved = max(one for one in plan[giver] if taker in subscribers[one[0]])
        plan[giver].remove(moved)
        plan[taker].add(moved)
