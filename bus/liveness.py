"""Who is alive: client slots, and the locks that prove it.

Client slot i of bus.ctl belongs to whoever holds the lock on byte i of clients.lock. The lock is
one of an open file description (OFD): the kernel takes it back when the process is gone, and only
then. Pids repeat and timeouts lie, so they are for messages alone.

    free ──lock──► mine ──fill, doorbell──► state 1 ──doorbell off──► state 0 ──unlock──► free
    dead: state 1 and the byte is free. The broker locks the byte, cleans up and frees the slot.

If the taker dies between locking and state 1, the slot is free again by itself; the doorbell
that it may have left is named by the slot's generation, and the next taker unlinks it.
"""

import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bus.config import CLIENT_ID_BYTES_MAX, CLIENTS_MAX, check_client_id
from bus.directory import SHARED_MEMORY, BusDirectory
from bus.errors import CorruptSegmentError, TooManyClientsError
from bus.files import explained
from bus.forks import drop_in_child
from bus.native.core import LAYOUT, Bells, Table

ROLE_PRODUCER: Final = 1
ROLE_CONSUMER: Final = 2
ROLE_ADMIN: Final = 3
ROLE_REPLICA: Final = 4
ROLE_GATEWAY: Final = 5
ROLE_NAMES: Final = {
    ROLE_PRODUCER: "producer",
    ROLE_CONSUMER: "consumer",
    ROLE_ADMIN: "admin",
    ROLE_REPLICA: "replica",
    ROLE_GATEWAY: "gateway",
}

#: Slots at the end of the table that programs do not get: with all others taken, a replica that
#: died must have its place, and so must the gateway.
RESERVED_SLOTS: Final = 64
_OF_THE_BUS: Final = (ROLE_REPLICA, ROLE_GATEWAY)

STATE_FREE: Final = 0
STATE_ATTACHED: Final = 1

_NEXT_GENERATION: Final = LAYOUT["bus_control.next_generation"]
_CLIENTS: Final = LAYOUT["bus_control.clients"]
_CLIENT_BYTES: Final = LAYOUT["sizeof.bus_client"]
_STATE: Final = LAYOUT["bus_client.state"]
_PID: Final = LAYOUT["bus_client.pid"]
_GENERATION: Final = LAYOUT["bus_client.generation"]
_START_TICKS: Final = LAYOUT["bus_client.start_ticks"]
_ROLE: Final = LAYOUT["bus_client.role"]
_CLIENT_ID: Final = LAYOUT["bus_client.client_id"]

#: Generations name doorbells in /dev/shm, where everybody may make a file: by steps of up to 2^32
#: nobody can guess the next names and take them first, and 64 bits are enough for 2^32 attaches.
_GENERATION_STEP_BYTES: Final = 4
#: struct flock of 64-bit Linux: type, whence, start, length, pid
_FLOCK: Final = struct.Struct("@hhqqi4x")
_START_TICKS_FIELD: Final = 22


# --------------------------------------------------------------------------------- byte locks


def lock_byte(fd: int, index: int, *, wait: bool = False) -> bool:
    """Lock byte `index` for the open file description of `fd`; False if another one holds it.

    With `wait`, sleeps until the other one lets go or dies.
    """
    how = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(fd, how, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, index, 1, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX allows both
        return False
    return True


def unlock_byte(fd: int, index: int) -> None:
    """Let go of byte `index`."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, index, 1, 0))


def is_dead(fd: int, index: int) -> bool:
    """True if no other open file description holds byte `index`: its holder is gone.

    A description never sees its own locks: do not ask with the one that may hold the byte.
    """
    return not _held_by_another(fd, index, 1)


def any_locked(fd: int) -> bool:
    """True if any byte of the file is locked by another open file description."""
    return _held_by_another(fd, 0, 0)


def _held_by_another(fd: int, start: int, length: int) -> bool:
    probe = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, probe))[0]
    return bool(kind != fcntl.F_UNLCK)


#: (client slot, client generation) -> is that client proven dead?
Death = Callable[[int, int], bool]


def death_probe(lock_fd: int, control: Table) -> Death:
    """Proof of death by the OFD lock of the client's byte, or by another client in its slot.

    `lock_fd` is a description of clients.lock that itself holds no byte.
    """
    clients = LAYOUT["bus_control.clients"] + LAYOUT["bus_client.generation"]

    def dead(client: int, generation: int) -> bool:
        # Whoever took the slot anew has taken the byte first, and could do so only after a death.
        at = clients + client * LAYOUT["sizeof.bus_client"]
        return control.load_acquire(at) != generation or is_dead(lock_fd, client)

    return dead


# ---------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same pid by its start time (clock ticks)."""

    pid: int
    start_ticks: int

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(pid, process_start_ticks(pid) or 0)

    @property
    def alive(self) -> bool:
        """True if it still runs. For messages: proof is the byte lock."""
        return process_start_ticks(self.pid) == self.start_ticks


def process_start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # field 2, the program's name in brackets, may hold spaces and brackets of its own
    after_name = text.rpartition(")")[2].split()
    return int(after_name[_START_TICKS_FIELD - 3])


# -------------------------------------------------------------------------------- client table


@dataclass(frozen=True)
class ClientRow:
    """One slot of the client table, as it stood at one moment."""

    slot: int
    state: int
    pid: int
    generation: int
    start_ticks: int
    role: int
    client_id: str

    @property
    def attached(self) -> bool:
        """True if a client has it, alive or not yet reaped."""
        return self.state == STATE_ATTACHED

    @property
    def role_name(self) -> str:
        """The role for people."""
        return ROLE_NAMES.get(self.role, "unknown")


def _at(slot: int) -> int:
    if not 0 <= slot < CLIENTS_MAX:
        raise IndexError(f"client slot {slot} is not one of 0 to {CLIENTS_MAX - 1}")
    return _CLIENTS + slot * _CLIENT_BYTES


def client_row(control: Table, slot: int) -> ClientRow:
    """What the client table says about a slot."""
    at = _at(slot)
    state = control.load32_acquire(at + _STATE)  # pairs with the release store in ClientSlot.take
    name = bytes(control.view[at + _CLIENT_ID : at + _CLIENT_ID + CLIENT_ID_BYTES_MAX + 1])
    return ClientRow(
        slot=slot,
        state=state,
        pid=control.load32_acquire(at + _PID),
        generation=control.load_acquire(at + _GENERATION),
        start_ticks=control.load_acquire(at + _START_TICKS),
        role=control.load32_acquire(at + _ROLE),
        client_id=name.partition(b"\0")[0].decode(errors="replace"),
    )


def client_rows(control: Table) -> list[ClientRow]:
    """All slots that a client has taken."""
    # pairs with the release store in ClientSlot.take
    taken = control.occupied(_at(0) + _STATE, _CLIENT_BYTES, CLIENTS_MAX)
    return [row for row in (client_row(control, slot) for slot in taken) if row.attached]


def _is_attached(control: Table, slot: int) -> bool:
    return control.load32_acquire(_at(slot) + _STATE) == STATE_ATTACHED


def describe_holder(control: Table, slot: int) -> str:
    """Who has a slot, for messages: "pid 123 (client_id)"."""
    row = client_row(control, slot)
    if not row.attached:
        return f"a client that is gone (slot {slot})"
    return f"pid {row.pid} ({row.client_id})"


def free_client(control: Table, slot: int) -> None:
    """Unlink the slot's doorbell and free the slot. The caller holds its byte."""
    _unlink_doorbell(control, slot)
    # pairs with the acquire load in ClientSlot.take: who finds the slot free finds no doorbell
    control.store32_release(_at(slot) + _STATE, STATE_FREE)


def bell_path(name: str) -> Path:
    """The file of a named semaphore, where the C library keeps it."""
    return SHARED_MEMORY / f"sem.{name.removeprefix('/')}"


def _unlink_doorbell(control: Table, slot: int) -> None:
    # Another user may have put a file under a name that was ours once. It harms nobody: bells are
    # used only where the file is ours, and the next generation has a name that cannot be guessed.
    with suppress(FileNotFoundError, PermissionError):
        os.unlink(bell_path(Bells(control).name(slot)))


def _create_doorbell(control: Table, slot: int, bus_id_hex: str) -> None:
    name = Bells(control).name(slot)
    if not name.startswith(f"/bus-{bus_id_hex}-"):  # nobody would ever find it to unlink it
        raise CorruptSegmentError(
            f"bus.ctl names another bus than {bus_id_hex}: it was overwritten; the broker makes a"
            " new one"
        )
    with explained(f"the semaphore {name} in /dev/shm"):
        Bells(control).create(slot)


class ClientSlot:
    """A slot of the client table, and the lock that proves its holder alive.

    Attributes: `slot`, `generation`, `fd` (the descriptor that holds the lock, -1 when released).
    """

    def __init__(self, control: Table, fd: int) -> None:
        """Private: use `take`."""
        self.fd = fd
        self.slot = -1
        self.generation = 0
        self._control = control
        drop_in_child(self)

    @classmethod
    def take(cls, directory: BusDirectory, control: Table, role: int, client_id: str) -> Self:
        """Take a free slot and create its doorbell. Raises TooManyClientsError."""
        check_client_id(client_id)
        taken = cls(control, directory.open_clients_lock())
        try:
            taken._lock_any(directory, role)
            taken._fill(role, client_id, directory.bus_id_hex)
        except BaseException:
            taken.after_fork()
            raise
        return taken

    def _lock_any(self, directory: BusDirectory, role: int) -> None:
        slots = range(CLIENTS_MAX - RESERVED_SLOTS)
        if role in _OF_THE_BUS:
            slots = range(CLIENTS_MAX - 1, -1, -1)
        for slot in slots:
            if _is_attached(self._control, slot) or not lock_byte(self.fd, slot):
                continue
            # it may have been taken, and left by a kill, since the look at its state: then it
            # must be reaped first, which is for the broker to do
            if not _is_attached(self._control, slot):
                self.slot = slot
                return
            unlock_byte(self.fd, slot)
        raise TooManyClientsError(
            f"all {len(slots)} client slots of {directory.path} are taken; close some producers"
            " and consumers (`bus status` lists them)"
        )

    def _fill(self, role: int, client_id: str, bus_id_hex: str) -> None:
        control, at = self._control, _at(self.slot)
        _unlink_doorbell(control, self.slot)  # of a taker that died before state 1
        me = Process.current()
        step = 1 + int.from_bytes(os.urandom(_GENERATION_STEP_BYTES), "little")
        self.generation = control.add(_NEXT_GENERATION, step)
        control.store_release(at + _GENERATION, self.generation)
        control.store_release(at + _START_TICKS, me.start_ticks)
        control.store32_release(at + _PID, me.pid)
        control.store32_release(at + _ROLE, role)
        name = client_id.encode().ljust(CLIENT_ID_BYTES_MAX + 1, b"\0")
        control.view[at + _CLIENT_ID : at + _CLIENT_ID + len(name)] = name
        _create_doorbell(control, self.slot, bus_id_hex)
        # pairs with the acquire load in client_row: who sees the state sees the whole slot
        control.store32_release(at + _STATE, STATE_ATTACHED)

    def release(self) -> None:
        """Free the slot. What was attached to it is detached already. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            free_client(self._control, self.slot)
            os.close(fd)

    def __del__(self) -> None:
        # dropped without release: without the lock it counts as dead, and the broker cleans up
        self.after_fork()

    def after_fork(self) -> None:
        """Close the lock's descriptor without freeing the slot: in a child it is the parent's."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
