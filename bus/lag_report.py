"""Who holds producers up: groups, their members and pids, in words that a person can act on."""

import time
from collections.abc import Iterator
from typing import Any

from bus.catalog import Topic
from bus.directory import BusDirectory
from bus.errors import CorruptSegmentError, GroupIdNotFoundError
from bus.holder import if_stopped
from bus.lag import GroupLag
from bus.lag_gate import Gate, inspect_gate
from bus.liveness import death_probe
from bus.members import Member, MemberTable
from bus.native.core import Partition, Table


class LagReport:
    """Tells of the gates of one bus. `lock_fd`: a description of clients.lock."""

    def __init__(self, hot_fd: int, control: Table, lock_fd: int) -> None:
        self._hot_fd = hot_fd
        self._death = death_probe(lock_fd, control)

    def sentence(self, topic: str, log: Partition, gate: Gate) -> str:
        """The message for a producer that waited in vain."""
        who = "; ".join(
            f"group {lag.group!r} lags {_lag_of(lag, gate)}: {self._reader_of(log, lag)}"
            for lag in _blockers(gate)
        )
        return (
            f"{topic}-{log.partition} is held back by its consumers: {who}; let them go on, raise"
            f" the limit with 'bus topics alter {topic}', or delete the group with 'bus groups"
            " delete'"
        )

    def rows(self, directory: BusDirectory, topic: Topic, log: Partition) -> list[dict[str, Any]]:
        """Each group with its lag, whether it holds producers up, and who reads in it.

        `bytes` is None for all but the slowest group, and without a limit of bytes. If a commit is
        lost, there is one row, in which `reader` says so.
        """
        try:
            return self._rows(topic.name, log, inspect_gate(directory, topic, log))
        except CorruptSegmentError as error:
            return [
                {
                    "topic": topic.name,
                    "partition": log.partition,
                    "group": topic.config.max_lag_groups,
                    "committed": None,
                    "records": None,
                    "bytes": None,
                    "holds_up": True,
                    "reader": str(error),
                }
            ]

    def _rows(self, topic: str, log: Partition, gate: Gate) -> list[dict[str, Any]]:
        held = {lag.group for lag in _blockers(gate)} if gate.holds(log) else set()
        return [
            {
                "topic": topic,
                "partition": log.partition,
                "group": lag.group,
                "committed": lag.committed.offset if lag.committed else None,
                "records": lag.records,
                "bytes": gate.behind_bytes
                if gate.is_slowest(lag) and gate.behind_bytes >= 0
                else None,
                "holds_up": lag.group in held,
                "reader": self._reader_of(log, lag),
            }
            for lag in gate.lags
        ]

    def _reader_of(self, log: Partition, lag: GroupLag) -> str:
        """Who reads the partition in that group, and when it committed last."""
        last = _last_commit(lag)
        members = self._live_members(lag)
        if members is None:
            return f"group {lag.group} was just deleted"
        owners = [one for one in members if (log.topic_id, log.partition) in members[one]]
        if owners:
            names = (f"member {_name(one)}{if_stopped(one.pid)}" for one in owners)
            return f"{', '.join(names)} has it, {last}"
        if members:
            names = (_name(one) for one in members)
            return f"none of its members has this partition ({', '.join(names)}), {last}"
        return f"group {lag.group} has no member, {last}"

    def _live_members(self, lag: GroupLag) -> dict[Member, set[tuple[int, int]]] | None:
        """Members that are not proven dead with what they own, as seen without the mutex."""
        try:
            table = MemberTable.open(self._hot_fd, lag.group_id, name=lag.group)
        except GroupIdNotFoundError:
            return None
        return {
            one: table.owners.owned_by(one.slot)
            for one in table.members()
            if not self._death(one.client, one.client_generation)
        }


def _name(member: Member) -> str:
    return f"{member.client_id!r} (pid {member.pid})"


def _blockers(gate: Gate) -> Iterator[GroupLag]:
    """The groups that are at the limit; the slowest one if it is the bytes that count."""
    for lag in gate.lags:
        if lag.records >= gate.limits.records >= 0 or gate.is_slowest(lag):
            yield lag


def _lag_of(lag: GroupLag, gate: Gate) -> str:
    parts = []
    if gate.limits.records >= 0:
        parts.append(f"{lag.records} records (max.lag.records {gate.limits.records})")
    if gate.limits.bytes >= 0:
        parts.append(f"{gate.behind_bytes} bytes (max.lag.bytes {gate.limits.bytes})")
    return " and ".join(parts)


def _last_commit(lag: GroupLag) -> str:
    if lag.committed is None:
        return "it has never committed here"
    ago = max(time.time_ns() - lag.committed.timestamp_ns, 0) / 1e9
    return f"last commit {ago:.1f} s ago, of offset {lag.committed.offset}"
