"""Who holds producers up: groups, their members and pids, in words that a person can act on."""

import time
from collections.abc import Iterator

from bus.client import Client
from bus.errors import GroupIdNotFoundError
from bus.holder import if_stopped
from bus.lag import GroupLag
from bus.lag_gate import Gate
from bus.liveness import death_probe
from bus.members import Member, MemberTable
from bus.native.core import Partition


def describe_gate(client: Client, topic: str, log: Partition, gate: Gate) -> str:
    """The message for a producer that waited in vain."""
    where = f"{topic}-{log.partition}"
    who = "; ".join(
        f"group {lag.group!r} lags {_lag_of(lag, gate)}: {describe_reader(client, log, lag)}"
        for lag in blockers(gate)
    )
    return (
        f"{where} is held back by its consumers: {who}; let them go on, raise the limit with 'bus"
        f" topics alter {topic}', or delete the group with 'bus groups delete'"
    )


def blockers(gate: Gate) -> Iterator[GroupLag]:
    """The groups that are at the limit; the slowest one if it is the bytes that count."""
    slowest = min((lag.offset for lag in gate.lags), default=0)
    for lag in gate.lags:
        if lag.records >= gate.limits.records >= 0 or lag.offset == slowest:
            yield lag


def _lag_of(lag: GroupLag, gate: Gate) -> str:
    parts = []
    if gate.limits.records >= 0:
        parts.append(f"{lag.records} records (max.lag.records {gate.limits.records})")
    if gate.limits.bytes >= 0:
        parts.append(f"{gate.behind_bytes} bytes (max.lag.bytes {gate.limits.bytes})")
    return " and ".join(parts)


def describe_reader(client: Client, log: Partition, lag: GroupLag) -> str:
    """Who reads the partition in that group, and when it committed last."""
    last = _last_commit(lag)
    members = _live_members(client, lag)
    if members is None:
        return f"group {lag.group} was just deleted"
    owners = [one for one in members if (log.topic_id, log.partition) in members[one]]
    if owners:
        return (
            ", ".join(
                f"member {one.client_id!r} (pid {one.pid}){if_stopped(one.pid)}" for one in owners
            )
            + f" has it, {last}"
        )
    if members:
        pids = ", ".join(f"{one.client_id!r} (pid {one.pid})" for one in members)
        return f"none of its members has this partition ({pids}), {last}"
    return f"group {lag.group} has no member, {last}"


def _last_commit(lag: GroupLag) -> str:
    if lag.committed is None:
        return "it has never committed here"
    ago = max(time.time_ns() - lag.committed.timestamp_ns, 0) / 1e9
    return f"last commit {ago:.1f} s ago, of offset {lag.committed.offset}"


def _live_members(client: Client, lag: GroupLag) -> dict[Member, set[tuple[int, int]]] | None:
    """Members that are not proven dead with what they own, as seen without the mutex."""
    try:
        table = MemberTable.open(client.hot_fd, lag.group_id, name=lag.group)
    except GroupIdNotFoundError:
        return None
    dead = death_probe(client.slot.fd, client.control)
    return {
        one: table.owners.owned_by(one.slot)
        for one in table.members()
        if not dead(one.client, one.client_generation)
    }
