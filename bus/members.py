"""The members table of a group, group-ID.ctl in the hot directory: who is in the group. Volatile.

    page 0    header: magic, version, ids | generation, owners_count, flags, planned | mutex
    then      256 member slots of 1 KiB                                      (bus_member)
    then      4096 owner slots of 16 bytes: see owners.py                    (bus_owner)

Every word is written under the mutex; only `generation` is also read without it.

What the words mean:
  generation  of the group. Raised by every join, leave, proven death, change of subscription, and
              when a topic got or lost partitions. A member that sees another one than it has acted
              on must look at the plan.
  planned     the generation that the owners' `target` words were computed for. Stored last, so a
              plan that was not finished does not count. Any member may write it: all compute the
              same from the same generation; the first one to finish spares the others the choice.
  client      of a member slot: client slot + 1. It is written last by a join and cleared last by
              a leave, so that a slot either is a whole member or is free.
  joined      the generation that the join raised the group to. Slot and `joined` are the member id:
              a slot that is used again never has the same one.
  seen        the generation whose plan this member follows. For people, not for decisions.

Every change starts with raising `generation`: whoever sees the new one takes the mutex to plan, and
so waits for the holder to finish, or finds it dead and repairs. Nobody can miss a half-made change.

If the holder of the mutex dies                  the next one finds, and repairs
  in a join, before `client`                     a free slot with rubbish in it: no harm
  in a join, after `client`                      a dead member: it is reaped
  in a leave, before `client` is 0               a dead member that owns less: it is reaped
  in a leave, after `client` is 0                nothing to do
  anywhere, leaving owners that name free slots  those owners; repair clears them
  in a plan, before `planned`                    no plan; the next member makes it
  after the unlock, before it rang the others    nothing: they look when their wait ends
The repair is idempotent, and dying in it is like dying before it. It raises the generation, too.
"""

import os
import struct
from functools import partial
from typing import NamedTuple, Self

from bus import files
from bus.assignment import STRATEGIES
from bus.errors import (
    CorruptSegmentError,
    DirectoryError,
    GroupIdNotFoundError,
    InconsistentGroupProtocolError,
    LockTimeoutError,
)
from bus.fields import Fields
from bus.holder import explain_lock
from bus.incidents import Incident, Incidents
from bus.liveness import Death
from bus.members_file import BYTES, MAGIC, VERSION, members_file_name
from bus.native.core import LAYOUT, Hold, Table
from bus.owners import OwnerTable
from bus.share_modes import SHARE_FLAGS, Mode, flagged_mode

#: members of one group, and topics of one member
MEMBERS_MAX = LAYOUT["BUS_GROUP_MEMBERS"]
TOPICS_MAX = LAYOUT["BUS_MEMBER_TOPICS"]
CLIENTS_MAX = LAYOUT["BUS_CLIENTS"]
#: how long a call waits for another process to leave its critical section (normally < 1 ms)
LOCK_TIMEOUT_MS = 10_000

_HEADER = Fields(
    "bus_members",
    {
        "magic": "Q",
        "version": "I",
        "bytes": "I",
        "bus_id": "Q",
        "group_id": "Q",
        "generation": "Q",
    },
)
_GENERATION = LAYOUT["bus_members.generation"]
_PLANNED = LAYOUT["bus_members.planned"]
_FLAGS = LAYOUT["bus_members.flags"]
_DELETED = 1
_MEMBERS = LAYOUT["bus_members.members"]
_MEMBER = Fields(
    "bus_member",
    {
        "client": "I",
        "topics_count": "I",
        "client_generation": "Q",
        "joined": "Q",
        "strategy": "I",
        "pid": "I",
        "seen": "Q",
    },
)
_CLIENT_ID_AT = LAYOUT["bus_member.client_id"]
_CLIENT_ID_BYTES = LAYOUT["bus_member.instance_id"] - _CLIENT_ID_AT
_TOPICS_AT = LAYOUT["bus_member.topics"]
#: what stands in the place of a strategy for a member of a share group
SHARE = "share"
_STRATEGY_NUMBERS = {**STRATEGIES, SHARE: 4}
_STRATEGY_NAMES = {number: name for name, number in _STRATEGY_NUMBERS.items()}


class MemberId(NamedTuple):
    """A member for good: nobody else ever has the same slot and `joined`."""

    slot: int
    joined: int


class Member(NamedTuple):
    """A member slot in use, as it was read. `client` is the client slot."""

    slot: int
    client: int
    client_generation: int
    joined: int
    strategy: str
    pid: int
    seen: int
    client_id: str
    topics: tuple[int, ...]

    @property
    def id(self) -> MemberId:
        """Slot and `joined`."""
        return MemberId(self.slot, self.joined)

    @property
    def name(self) -> str:
        """The member id as people see it."""
        return f"{self.client_id or 'consumer'}-{self.slot}-{self.joined}"


class MemberTable:
    """The members table of one group, attached by this process."""

    def __init__(
        self,
        table: Table,
        *,
        lock_timeout_ms: float = LOCK_TIMEOUT_MS,
        incidents: Incidents | None = None,
        waits_once: bool = False,
        name: str = "",
    ) -> None:
        """Raises CorruptSegmentError naming the field if `table` is not a members table.

        With `waits_once`, a holder that was waited for in vain is not waited for again.
        """
        self._table = table
        self._incidents = incidents
        self._timeout_ms = lock_timeout_ms
        self._waits_once = waits_once
        self._stuck_tid = 0
        header = _HEADER.read(table.view)
        for field, value in (("magic", MAGIC), ("version", VERSION), ("bytes", BYTES)):
            if header[field] != value:
                raise CorruptSegmentError(
                    f"{field} of the members table is {header[field]:#x}, expected {value:#x};"
                    " stop the bus and start it again to make the table anew"
                )
        self.bus_id = header["bus_id"]
        self.group_id = header["group_id"]
        self.name = name or f"number {self.group_id}"
        self.owners = OwnerTable(table)

    @classmethod
    def open(
        cls,
        hot_fd: int,
        group_id: int,
        *,
        lock_timeout_ms: float = LOCK_TIMEOUT_MS,
        incidents: Incidents | None = None,
        waits_once: bool = False,
        name: str = "",
    ) -> Self:
        """Attach to the table of a group. Raises GroupIdNotFoundError."""
        try:
            fd = files.open_file(members_file_name(group_id), dir_fd=hot_fd)
        except DirectoryError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise GroupIdNotFoundError(
                    f"group number {group_id} has no members table: it was deleted, or the bus"
                    " was started anew; close this handle and open another one"
                ) from error
            raise
        try:
            size = os.fstat(fd).st_size
            if size != BYTES:
                raise CorruptSegmentError(f"{files.path_of(fd)} has {size} bytes, not {BYTES}")
            table = Table(fd, BYTES, mutex_at=LAYOUT["bus_members.lock"])
        finally:
            os.close(fd)
        return cls(
            table,
            lock_timeout_ms=lock_timeout_ms,
            incidents=incidents,
            waits_once=waits_once,
            name=name,
        )

    @property
    def generation(self) -> int:
        """Of the group; one load. Pairs with the release in `raise_generation`."""
        return self._table.load_acquire(_GENERATION)

    @property
    def generation_word(self) -> tuple[Table, int]:
        """The table and where in it the generation stands, to be watched in a wait."""
        return self._table, _GENERATION

    @property
    def planned(self) -> bool:
        """True if the targets were computed for the present generation."""
        return self._table.load_acquire(_PLANNED) == self.generation

    @property
    def shared(self) -> bool:
        """True if this is a share group: its members have ack tables, and own no partitions."""
        return bool(self._table.load32_acquire(_FLAGS) & SHARE_FLAGS[None])

    @property
    def mode(self) -> Mode | None:
        """Of a share group; None: its next member says."""
        return flagged_mode(self._table.load32_acquire(_FLAGS))

    @property
    def deleted(self) -> bool:
        """True once the group is deleted; its files are gone or will be."""
        return bool(self._table.load32_acquire(_FLAGS) & _DELETED)

    # ------------------------------------------------------------------------- the mutex

    @property
    def needs_repair(self) -> bool:
        """True if a holder of the mutex died, and nobody has repaired yet what it left."""
        return self._table.needs_repair

    @property
    def is_usable(self) -> bool:
        """False if the mutex was written over: nobody will ever have it again."""
        try:
            with self.locked(0):
                return True
        except LockTimeoutError:
            return True
        except CorruptSegmentError:
            return False

    def locked(self, timeout_ms: float | None = None) -> Hold:
        """Hold the mutex; what a dead holder left is repaired first.

        Waits `timeout_ms`, or as told before; `with` raises LockTimeoutError.
        """
        wait_ms = self._timeout_ms if timeout_ms is None else timeout_ms
        if self._table.owner_tid != self._stuck_tid:
            self._stuck_tid = 0
        elif self._waits_once and self._stuck_tid:
            wait_ms = 0.0
        return Hold(self._table, wait_ms, self._repair, partial(self._explained, wait_ms))

    def _explained(self, waited_ms: float, error: LockTimeoutError) -> LockTimeoutError:
        tid, pid = error.owner_tid, error.owner_pid
        client_id = next((one.client_id for one in self.members() if one.pid == pid), "")
        text = explain_lock(f"group {self.name!r}", tid, waited_ms, client_id=client_id)
        if tid != self._stuck_tid:
            self._note(Incident.LOCK_HELD, text)
        self._stuck_tid = tid
        return LockTimeoutError(text, owner_tid=tid, owner_pid=pid)

    def _repair(self) -> None:
        """Clear what names free slots, and let everybody look again."""
        self.raise_generation()
        self.owners.forget_all_but({member.slot for member in self.members()})
        self._note(Incident.LOCK_REPAIRED, "a process died under its lock; all members look again")

    def _note(self, kind: Incident, text: str) -> None:
        if self._incidents is not None:
            self._incidents.note(kind, "group %r: %s", self.name, text)

    # --------------------------------------------------------- under the mutex: reading

    def members(self) -> list[Member]:
        """All members, in the order of their slots. Without the mutex: for people only."""
        taken = self._table.occupied(_MEMBERS, _MEMBER.size, MEMBERS_MAX)
        found = (self.member(slot) for slot in taken)
        return [member for member in found if member is not None]

    def member(self, slot: int) -> Member | None:
        """The member in `slot`, None if it is free."""
        at = _MEMBERS + slot * _MEMBER.size
        client = self._table.load32_acquire(at)
        if client == 0:
            return None
        if client > CLIENTS_MAX:
            raise CorruptSegmentError(
                f"slot {slot} of the members table names client {client - 1}, of {CLIENTS_MAX};"
                " stop the bus and start it again to make the table anew"
            )
        view = self._table.view
        _, topics_count, client_generation, joined, strategy, pid, seen = _MEMBER.values(view, at)
        name = bytes(view[at + _CLIENT_ID_AT : at + _CLIENT_ID_AT + _CLIENT_ID_BYTES])
        return Member(
            slot,
            client - 1,
            client_generation,
            joined,
            _STRATEGY_NAMES.get(strategy, "sticky"),
            pid,
            seen,
            name.rstrip(b"\0").decode(errors="replace"),
            struct.unpack_from(f"<{min(topics_count, TOPICS_MAX)}I", view, at + _TOPICS_AT),
        )

    def free_slot(self) -> int | None:
        """A slot without a member."""
        for slot in range(MEMBERS_MAX):
            if self._table.load32_acquire(_MEMBERS + slot * _MEMBER.size) == 0:
                return slot
        return None

    # --------------------------------------------------------- under the mutex: writing

    def raise_generation(self) -> None:
        """Make every member look at the group again."""
        self._table.add(_GENERATION, 1)

    def mark_planned(self, generation: int) -> None:
        """Make the targets count, as the plan of `generation`."""
        self._table.store_release(_PLANNED, generation)

    def mark_seen(self, slot: int, generation: int) -> None:
        """Note for people that the member follows the plan of `generation`."""
        at = _MEMBERS + slot * _MEMBER.size + _MEMBER.offsets["seen"]
        self._table.store_release(at, generation)

    def mark_shared(self, mode: Mode | None) -> None:
        """From now on this is a share group, of that mode if it is known."""
        self._table.store32_release(_FLAGS, self._table.load32_acquire(_FLAGS) | SHARE_FLAGS[mode])

    def mark_deleted(self) -> None:
        """Let nobody join or commit any more: the group, or this table of it, is over."""
        self.raise_generation()
        self._table.store32_release(_FLAGS, _DELETED)

    def revive(self) -> None:
        """Take a mark back that a broker died over: the group is there."""
        if self.deleted:
            self.raise_generation()
            flags = self._table.load32_acquire(_FLAGS)
            self._table.store32_release(_FLAGS, flags & ~_DELETED)

    def admit(self, member: Member) -> None:
        """Write a new member into its free slot; it counts from the store of `client` on.

        Raises InconsistentGroupProtocolError for a Consumer in a share group.
        """
        if self.shared and member.strategy != SHARE:
            raise InconsistentGroupProtocolError(
                f"{self.name!r} is a share group, which a Consumer cannot join: use ShareConsumer,"
                " or another group_id"
            )
        self.raise_generation()
        self.owners.forget(member.slot)
        at = _MEMBERS + member.slot * _MEMBER.size
        values = {
            "client_generation": ("Q", member.client_generation),
            "joined": ("Q", member.joined),
            "strategy": ("I", _STRATEGY_NUMBERS[member.strategy]),
            "pid": ("I", member.pid),
            "seen": ("Q", 0),
        }
        for field, (code, value) in values.items():
            struct.pack_into("<" + code, self._table.view, at + _MEMBER.offsets[field], value)
        cut = member.client_id.encode()[:_CLIENT_ID_BYTES].decode(errors="ignore")
        name_at = at + _CLIENT_ID_AT
        self._table.view[name_at:][:_CLIENT_ID_BYTES] = cut.encode().ljust(_CLIENT_ID_BYTES, b"\0")
        self.subscribe(member.slot, member.topics)
        self._table.store32_release(at, member.client + 1)

    def subscribe(self, slot: int, topics: tuple[int, ...]) -> None:
        """Write the topics of a slot; the caller has raised the generation."""
        at = _MEMBERS + slot * _MEMBER.size
        struct.pack_into(f"<{len(topics)}I", self._table.view, at + _TOPICS_AT, *topics)
        self._table.store32_release(at + _MEMBER.offsets["topics_count"], len(topics))

    def remove(self, slot: int) -> None:
        """Free a slot and all that it owns: its member leaves, or is proven dead."""
        self.raise_generation()
        self.owners.forget(slot)
        self._table.store32_release(_MEMBERS + slot * _MEMBER.size, 0)

    def remove_dead(self, death: Death) -> int:
        """Remove all members that `death` proves to be dead; how many there were."""
        dead = [one for one in self.members() if death(one.client, one.client_generation)]
        for member in dead:
            self.remove(member.slot)
            self._note(Incident.MEMBER_REMOVED, f"member {member.name}, pid {member.pid}, is dead")
        return len(dead)
