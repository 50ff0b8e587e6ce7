"""A member that is about to be admitted to a group of either kind. Under the group's mutex."""

import os
from collections.abc import Iterable

from bus.errors import BusConfigurationError, BusError
from bus.group_tables import GroupTables
from bus.members import MEMBERS_MAX, TOPICS_MAX, Member


def checked_topics(topic_ids: Iterable[int]) -> tuple[int, ...]:
    """The topics of a member, ascending. Raises BusConfigurationError beyond 224 of them."""
    topics = tuple(sorted(set(topic_ids)))
    if len(topics) > TOPICS_MAX:
        raise BusConfigurationError(
            f"a group member can subscribe to {TOPICS_MAX} topics, not {len(topics)}; use"
            " several consumers"
        )
    return topics


def newcomer(tables: GroupTables, group: str, strategy: str, topics: tuple[int, ...]) -> Member:
    """This client as the next member, in a slot that is free. Raises BusError if none is.

    Its id is known before anything is written: should a signal handler raise while it is admitted,
    whoever leaves frees the slot.
    """
    slot = tables.members.free_slot()
    if slot is None:
        raise BusError(f"group {group!r} has {MEMBERS_MAX} members, no more fit; end some of them")
    client, client_generation = tables.client_key
    return Member(
        slot=slot,
        client=client,
        client_generation=client_generation,
        joined=tables.members.generation + 1,
        strategy=strategy,
        pid=os.getpid(),
        seen=0,
        client_id=tables.client.client_id or "consumer",
        topics=topics,
    )
