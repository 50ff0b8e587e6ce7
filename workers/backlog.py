"""What a share group has still to do, partition by partition, as the bus tells it."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import bus
from bus.errors import GroupIdNotFoundError


@dataclass(frozen=True, slots=True)
class Backlog:
    """One partition of a topic, as a group stands to it.

    `left` records are not done yet, of which `in_flight` are claimed by workers, `ready` came back,
    `delayed` come again later, and the others were never given out. `lag` is how far the committed
    offset, below which all is done, is behind the log's end: one long task holds it up. `dead` ones
    were given up since the broker started.
    """

    topic: str
    partition: int
    log_end: int
    left: int
    lag: int
    in_flight: int
    ready: int
    delayed: int
    dead: int


def backlog(admin: bus.Admin, group: str, topics: Iterable[str]) -> list[Backlog]:
    """All partitions of those topics that exist. Raises the bus's errors."""
    wanted, present = set(topics), set(admin.list_topics())
    shares: dict[bus.TopicPartition, dict[str, int]] = {}
    committed: dict[bus.TopicPartition, bus.OffsetAndMetadata] = {}
    with suppress(GroupIdNotFoundError):  # nobody has worked in it yet
        shares = admin.describe_shares(group)
        committed = admin.list_group_offsets(group).get(group, {})
    found = []
    for topic in admin.describe_topics(sorted(wanted & present)):
        for part in topic["partitions"]:
            where = bus.TopicPartition(topic["name"], part["partition_index"])
            found.append(_of_partition(where, part, shares.get(where), committed.get(where)))
    return found


def _of_partition(
    where: bus.TopicPartition,
    part: dict[str, Any],
    share: dict[str, int] | None,
    committed: bus.OffsetAndMetadata | None,
) -> Backlog:
    end = part["log_end_offset"]
    if share is None:  # nobody has worked on it since the broker's start
        low = part["log_start_offset"] if committed is None else committed.offset
        left = lag = max(0, end - low)
        return Backlog(where.topic, where.partition, end, left, lag, 0, 0, 0, 0)
    # those that were overtaken are in one of these states as well
    waiting = sum(share.get(name, 0) for name in ("in_flight", "ready", "delayed", "waiting"))
    return Backlog(
        topic=where.topic,
        partition=where.partition,
        log_end=end,
        left=waiting + max(0, end - share["next"]),
        lag=max(0, end - share["low"]),
        in_flight=share["in_flight"],
        ready=share["ready"],
        delayed=share["delayed"],
        dead=share["dead"],
    )
