"""Tells producers that a group's commit moved: the one call behind every commit.

Producers that wait for consumers sleep on the partition's `space`, like those that wait for room.
Who has committed looks at one word of the control page, and rings them if it says that the topic
has a limit. A commit that moved back makes the next append look (see `lag_gate` in layout.h).
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from bus.assignment import Partition
from bus.native.core import Partition as Log

if TYPE_CHECKING:
    from bus.group_tables import GroupClient


def commit_moved(client: "GroupClient", partition: Partition, offset: int) -> None:
    """After a commit of `offset` for a partition (topic id, number); -1: it was taken back."""
    log = client.attached(*partition)
    if log is None:
        with suppress(FileNotFoundError):  # the topic was deleted: nobody waits
            log = Log(client.hot_fd, *partition, client.bells, client.slot.slot)
    if log is not None:
        log.commit_moved(offset)
