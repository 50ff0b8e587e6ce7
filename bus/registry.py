"""Who is attached, and the proof of who is dead.

A client holds the lock on its byte of clients.lock and keeps a socket open. The socket's end
tells the broker at once to look; the lock proves. A client that has no connection (the broker
is a new one, or it is a replica) is probed about once a second. Nobody is reaped on a timeout.

Reaping: lock the dead client's byte (nobody can take the slot now), free what the client held,
free the slot, unlock. A broker that dies in between leaves a slot that is attached and unlocked,
so the next one does it again.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Final

from bus.config import CLIENTS_MAX
from bus.directory import BusDirectory
from bus.errors import BusError, IllegalStateError
from bus.hotdir import HotDirectory
from bus.incidents import Incident, Incidents
from bus.liveness import (
    ROLE_GATEWAY,
    ROLE_REPLICA,
    STATE_ATTACHED,
    STATE_FREE,
    ClientRow,
    client_row,
    client_rows,
    free_client,
    is_dead,
    lock_byte,
    unlock_byte,
)
from bus.native.core import LAYOUT

logger = logging.getLogger(__name__)

#: Between a closed socket and the next look at its lock; doubled each time, in seconds.
FIRST_DELAY_S: Final = 0.001
LAST_DELAY_S: Final = 0.1

_NEXT_GENERATION: Final = LAYOUT["bus_control.next_generation"]

#: Called with the slot and the generation of a client that is proven dead; frees what it held.
#: False: some of it cannot be freed yet, because a stopped process holds the lock around it.
Reaper = Callable[[int, int], bool]


class Registry:
    """The client table of one bus, as its broker looks after it."""

    def __init__(self, directory: BusDirectory, hot: HotDirectory, reaper: Reaper) -> None:
        self._control = hot.control
        self._incidents = Incidents(hot.control)
        #: to probe and to lock bytes of dead clients; it never holds one for long
        self.lock_fd = directory.open_clients_lock()
        self._reaper = reaper
        self._connected: dict[int, int] = {}  # slot -> generation of clients with a connection
        #: slot -> when to look again, on the monotonic clock, and how long that wait is
        self._dying: dict[int, tuple[float, float]] = {}
        #: clients that died without saying goodbye
        self.reaped = 0

    def close(self) -> None:
        """Gives the lock file back."""
        os.close(self.lock_fd)

    def rows(self) -> list[ClientRow]:
        """Every taken slot; a dead one stays until it is reaped."""
        return client_rows(self._control)

    def clients(self) -> list[ClientRow]:
        """Every taken slot that is no replica's, and not the gateway's own."""
        return [row for row in self.rows() if row.role not in (ROLE_REPLICA, ROLE_GATEWAY)]

    def connected_slots(self) -> list[int]:
        """Slots whose clients have a connection."""
        return list(self._connected)

    def overwritten(self) -> list[int]:
        """Slots of connected clients that say what no client writes there."""
        rows = [client_row(self._control, slot) for slot in self._connected]
        next_generation = self._control.load_acquire(_NEXT_GENERATION)
        return [
            row.slot
            for row in rows
            if row.state not in (STATE_FREE, STATE_ATTACHED) or row.generation >= next_generation
        ]

    # ---------------------------------------------------------------------------- connections

    def connected(self, slot: int, generation: int, pid: int) -> None:
        """A client said hello: its socket will tell when to look.

        `pid` is the kernel's word for who is at its other end. Raises IllegalStateError if the
        slot is not that client's: one that another process keeps connected is not looked after.
        """
        if not 0 <= slot < CLIENTS_MAX or client_row(self._control, slot).generation != generation:
            raise IllegalStateError(f"client slot {slot} is not one of generation {generation}")
        if (owner := client_row(self._control, slot).pid) != pid:
            raise IllegalStateError(f"client slot {slot} is one of pid {owner}, not of pid {pid}")
        self._connected[slot] = generation

    def disconnected(self, slot: int, generation: int) -> None:
        """The socket of a client is closed: reap it if it is dead."""
        if self._connected.get(slot) == generation:
            del self._connected[slot]
        if not self.probe(slot) and client_row(self._control, slot).attached:
            self._dying[slot] = (time.monotonic() + FIRST_DELAY_S, FIRST_DELAY_S)

    def next_probe_s(self) -> float | None:
        """When `probe_dying` is due, on the monotonic clock; None: nobody is dying."""
        return min((due for due, _ in self._dying.values()), default=None)

    def probe_dying(self, now: float) -> None:
        """Looks again at clients whose socket is closed while their lock is still held.

        The kernel closes a dying process's files one by one, so this takes an instant. Who is
        still there after LAST_DELAY_S has closed the socket alone, and is left to `probe_all`.
        """
        for slot, (due, delay) in list(self._dying.items()):
            if due > now:
                continue
            if self.probe(slot) or delay > LAST_DELAY_S:
                del self._dying[slot]
            else:
                self._dying[slot] = (now + 2 * delay, 2 * delay)

    # -------------------------------------------------------------------------------- reaping

    def probe_all(self) -> int:
        """Reaps every dead client that has no connection; returns how many."""
        return sum(
            self.probe(row.slot)
            for row in self.rows()
            if self._connected.get(row.slot) != row.generation
        )

    def probe(self, slot: int) -> bool:
        """Reaps the client in a slot if its lock is free; True if it was dead."""
        row = client_row(self._control, slot)
        if not row.attached or not is_dead(self.lock_fd, slot):
            return False
        if not lock_byte(self.lock_fd, slot):
            return False
        try:
            return self._reap(client_row(self._control, slot))  # nobody changes it any more
        finally:
            unlock_byte(self.lock_fd, slot)

    def _reap(self, row: ClientRow) -> bool:
        if not row.attached:
            return False
        try:
            if not self._reaper(row.slot, row.generation):
                return False  # the slot stays taken, so the next probe tries again
        except BusError as error:
            logger.error("could not free what pid %d held: %s", row.pid, error)
            return False
        free_client(self._control, row.slot)
        self.reaped += 1
        self._incidents.note(
            Incident.CLIENT_REAPED,
            "%r (%s, pid %d) died; what it held is free",
            row.client_id,
            row.role_name,
            row.pid,
        )
        return True
