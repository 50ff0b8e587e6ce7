"""Tells producers that a group's commit moved: the one call behind every commit.

Producers that wait for consumers sleep on the partition's `space`, like those that wait for room.
Who has committed looks at one word of the control page, and rings them if it says that the topic
has a limit. A commit that moved back makes the next append look (see `lag_gate` in layout.h).
"""

import logging
from typing import TYPE_CHECKING

from bus.assignment import Partition
from bus.errors import BusError
from bus.native.core import Partition as Log

if TYPE_CHECKING:
    from bus.group_tables import GroupClient

logger = logging.getLogger(__name__)


def commit_moved(client: "GroupClient", partition: Partition, offset: int) -> None:
    """After a commit of `offset` for a partition (topic id, number); -1: it was taken back."""
    log = client.attached(*partition) or _open(client, partition)
    if log is not None:
        log.commit_moved(offset)


def _open(client: "GroupClient", partition: Partition) -> Log | None:
    """The control page for who does not read the partition; None if it cannot be had.

    The commit stands all the same: those who wait look by themselves after a while, and who moved
    one back is followed by the broker's guard.
    """
    try:
        return Log(client.hot_fd, *partition, client.bells, client.slot.slot)
    except FileNotFoundError:  # the topic was deleted: nobody waits
        return None
    except (OSError, BusError) as error:
        logger.warning(
            "producers of topic id %d, partition %d, are not told: %s", *partition, error
        )
        return None
