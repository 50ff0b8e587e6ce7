"""What follows when shared pages were written to by somebody who may not: who it was, and his end.

    canary touched   the writer is proven: it is killed, because nothing else stops its stores
    page spoiled     the processes that may have done it are named; none is proven, none is killed

Afterwards the bus moves to a new hot directory (`bus.salvage`), and all clients attach there anew.
Whoever wrote into the old one has only that.
"""

import logging
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from bus.autostart import is_readable
from bus.errors import BusError
from bus.guard import Spoiled
from bus.incidents import Incident, Incidents
from bus.native.core import LAYOUT
from bus.open_partition import OpenPartition

logger = logging.getLogger(__name__)

#: A killed process is gone by then, in seconds.
KILL_TIMEOUT_S: Final = 2.0
_DELETED: Final = LAYOUT["BUS_FLAG_DELETED"]


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a broker that moves hands to itself: its lock, its socket, and what it has counted."""

    lock_fd: int
    listener_fd: int
    counts: Mapping[str, int]
    spoiled: tuple[Spoiled, ...]
    killed: tuple[int, ...] = field(default=())
    #: it was asked to stop while it moved
    is_stopping: bool = False

    def note(self, incidents: Incidents) -> None:
        """Counts what led to the move, in the new hot directory."""
        incidents.restore(self.counts)
        for one in self.spoiled:
            incidents.note(
                Incident.DAMAGE_FOUND,
                "%s was overwritten: %s; the bus moved to a new hot directory (pids that have it"
                " mapped for writing: %s)",
                one.file,
                one.what,
                ", ".join(map(str, one.writers)) or "none now",
            )
        for pid in self.killed:
            incidents.note(
                Incident.CLIENT_EVICTED,
                "pid %d wrote to shared pages where nobody may, and was killed",
                pid,
            )


def abandon(partitions: Iterable[OpenPartition]) -> None:
    """Leaves spoiled hot logs: nothing is accepted there any more, as far as words can say.

    Their locks may be spoiled as well, so nothing here depends on them.
    """
    leaving = list(partitions)
    for partition in leaving:
        partition.log.set_offset_limit(0)
    for partition in leaving:
        try:
            partition.log.retire_before(0)  # an append that saw the old limit is through then
        except BusError as error:
            logger.error("%s: %s", partition.name, error)
        partition.log.set_settings(flags=partition.topic.flags | _DELETED)
        partition.log.ring_data()
        partition.log.ring_durable()
        partition.log.ring_space()


def end_culprits(spoiled: Sequence[Spoiled], innocent: Iterable[int]) -> tuple[int, ...]:
    """Kills every process that is proven to have written where nobody may; returns their pids.

    `innocent` are processes of the bus itself, which its own supervisor ends.
    """
    proven = {pid for one in spoiled for pid in one.culprits} - set(innocent)
    return tuple(pid for pid in sorted(proven) if _kill(pid))


def _kill(pid: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return is_readable(pidfd, KILL_TIMEOUT_S)
    finally:
        os.close(pidfd)
