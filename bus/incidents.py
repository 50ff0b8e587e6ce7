"""What went wrong and was dealt with: each kind is counted for the whole bus, and logged.

    Incidents(control).note(Incident.LOCK_REPAIRED, "%s: pid %d died in its lock", name, pid)

The counters stand in bus.ctl, so clients, replicas and brokers add to the same ones, and they
outlive each of those processes; they begin at 0 when the bus starts anew. `bus status` shows
them. The text goes to the logger "bus.incidents" of the process that noticed, as a warning.
"""

import logging
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from bus.native.core import LAYOUT, Table

logger = logging.getLogger(__name__)

_WORDS: Final = LAYOUT["bus_control.incidents"]
_WORD_BYTES: Final = 8


class Incident(IntEnum):
    """The kinds. A number is a place in bus.ctl: it keeps its meaning, new ones come at the end."""

    #: the holder of a partition's or group's lock died in it; what it guards was put in order
    LOCK_REPAIRED = 0
    #: a living process kept a lock beyond a time limit: it is stopped, or very slow
    LOCK_HELD = 1
    #: a client died without saying goodbye, and all that it held was freed
    CLIENT_REAPED = 2
    #: a client was cut off, because it broke the rules of shared memory or of the control socket
    CLIENT_EVICTED = 3
    #: a member of a group was removed because it was proven dead
    MEMBER_REMOVED = 4
    #: a replica process ended unasked, and another one was started
    REPLICA_RESTARTED = 5
    #: a replica met damage that it must not copy, and stopped
    REPLICA_STOPPED = 6
    #: a durable file could not be written or synced, and was copied anew from the hot ring
    FILE_COPIED_ANEW = 7
    #: a filesystem was full, and what needed room is tried again
    NO_SPACE = 8
    #: a broker took over the hot directory of one that was killed
    BUS_ADOPTED = 9
    #: a partition was recovered from its durable segments
    PARTITION_RECOVERED = 10
    #: the torn end of a durable segment, never acknowledged, was cut off
    TAIL_CUT = 11
    #: a durable file that cannot be read was taken out of the log and kept under another name
    FILE_SET_ASIDE = 12
    #: bytes that do not verify were met, by a reader, the replica, a scrub or a check
    DAMAGE_FOUND = 13
    #: damaged bytes were put right from another copy
    DAMAGE_REPAIRED = 14
    #: a reader was told that records are missing
    GAP_REPORTED = 15
    #: a request on a socket was refused as malformed, or came from who may not ask
    REQUEST_REFUSED = 16
    #: a system call failed and was tried again later
    CALL_RETRIED = 17
    #: the gateway of other users' programs ended unasked, and another one was started
    GATEWAY_RESTARTED = 18
    #: a small file of truth was damaged, and restored from its copy or from what else is known
    METADATA_MENDED = 19
    #: the wall clock was set; `retention.ms` does not go by a step ahead before it has stood
    CLOCK_STEPPED = 20
    #: the disk did not take what is to be durable for many seconds
    SYNC_SLOW = 21
    #: the words that hold producers up while consumers lag said what nobody can have worked out
    LAG_GATE_MENDED = 22
    #: records that a member of a share group had when it died are given to others
    RECORDS_TAKEN_BACK = 23


assert max(Incident) < LAYOUT["BUS_INCIDENTS"]


class Incidents:
    """The counters of one bus. `control` is its bus.ctl, mapped for writing."""

    def __init__(self, control: Table) -> None:
        self._control = control

    def note(self, kind: Incident, text: str, *values: object) -> None:
        """Count an incident, and log what happened and why (`text % values`)."""
        self._control.add(_WORDS + kind * _WORD_BYTES, 1)
        logger.warning(text, *values)

    def restore(self, counts: Mapping[str, int]) -> None:
        """Go on counting from what `counts()` said before, in a new hot directory."""
        for kind in Incident:
            self._control.add(_WORDS + kind * _WORD_BYTES, counts[kind.name.lower()])

    def counts(self) -> dict[str, int]:
        """How often each kind was met since the hot directory was made, by name."""
        return {kind.name.lower(): self._count(kind) for kind in Incident}

    def _count(self, kind: Incident) -> int:
        return self._control.load_acquire(_WORDS + kind * _WORD_BYTES)
