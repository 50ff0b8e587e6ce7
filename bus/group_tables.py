"""The shared tables of one group as a client holds them: members, offsets, and proof of death."""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from bus.assignment import Partition
from bus.errors import BrokerNotRunningError, GroupIdNotFoundError, LockTimeoutError
from bus.fencing import check_bus_stayed
from bus.incidents import Incidents
from bus.lag_bell import commit_moved
from bus.liveness import death_probe
from bus.members import LOCK_TIMEOUT_MS, MemberId, MemberTable
from bus.native.core import LAYOUT, Bells, Table
from bus.native.core import Partition as Log
from bus.offset_entries import Committed
from bus.offsets import OffsetTable

_STOPPING: Final = LAYOUT["bus_control.stopping"]


class _Directory(Protocol):
    def open_groups(self) -> int: ...
    def open_clients_lock(self) -> int: ...


class _Slot(Protocol):
    @property
    def slot(self) -> int: ...
    @property
    def generation(self) -> int: ...


class GroupClient(Protocol):
    """What groups need of `bus.client.Client`."""

    client_id: str

    @property
    def directory(self) -> _Directory: ...
    @property
    def slot(self) -> _Slot: ...
    @property
    def control(self) -> Table: ...
    @property
    def bells(self) -> Bells: ...
    @property
    def hot_fd(self) -> int: ...
    def call(self, op: str, /, **args: Any) -> dict[str, Any]: ...
    def attached(self, topic_id: int, partition: int) -> Log | None: ...


class GroupTables:
    """Both tables of a group, open until `close`.

    Attributes: `members`, `offsets` (to be written under the members' mutex) and `death`.
    """

    def __init__(
        self,
        client: GroupClient,
        group: str,
        *,
        create: bool,
        lock_timeout_ms: float = LOCK_TIMEOUT_MS,
    ) -> None:
        """Ask the broker for the group and open its files.

        Raises GroupIdNotFoundError without `create` if there is none, BrokerNotRunningError if the
        bus is stopped meanwhile, and what the call raises.
        """
        self.client = client
        self._attached_as = self.client_key
        answer = client.call("group", name=group, create=create)
        try:
            self.members = MemberTable.open(
                client.hot_fd,
                int(answer["id"]),
                lock_timeout_ms=lock_timeout_ms,
                incidents=Incidents(client.control),
                name=group,
            )
        except GroupIdNotFoundError as error:
            if client.control.load32_acquire(_STOPPING):
                raise BrokerNotRunningError(
                    f"the bus was stopped while group {group!r} was opened"
                ) from error
            raise
        groups_fd = client.directory.open_groups()
        try:
            self.offsets = OffsetTable.open(groups_fd, group)
        finally:
            os.close(groups_fd)
        self._lock_fd = client.directory.open_clients_lock()
        self.death = death_probe(self._lock_fd, client.control)

    def committed(
        self, partitions: Iterable[Partition], wait_ms: float
    ) -> dict[Partition, Committed | None]:
        """The commits of some partitions.

        While a stopped process holds the mutex nobody commits, so the table is read without it;
        twice, lest that process has just gone on.
        """
        wanted = list(partitions)
        with suppress(LockTimeoutError), self.members.locked(wait_ms):
            return self.offsets.get(wanted)
        found = self.offsets.get(wanted)
        while (again := self.offsets.get(wanted)) != found:
            found = again
        return found

    def put(self, offsets: Mapping[Partition, tuple[int, bytes]]) -> None:
        """Commit; the caller holds the mutex, and calls `moved` once it has given it back.

        Raises CommitFailedError if the bus left this hot directory meanwhile.
        """
        self.offsets.put(offsets, generation=self.members.generation, timestamp_ns=time.time_ns())
        check_bus_stayed(self.client.control, self.offsets.header.name)

    def moved(self, offsets: Mapping[Partition, tuple[int, bytes]]) -> None:
        """Tell the producers that wait for this group."""
        for partition, (offset, _) in offsets.items():
            commit_moved(self.client, partition, offset)

    @property
    def client_key(self) -> tuple[int, int]:
        """The client's slot and generation now: another one after a fork or a bus restart."""
        slot = self.client.slot
        return slot.slot, slot.generation

    @property
    def stale(self) -> bool:
        """True if these are not the group's tables any more: open them anew."""
        return self.members.deleted or self.client_key != self._attached_as

    def ring(self, clients: Iterable[int]) -> None:
        """Wake clients by their slots."""
        for client in clients:
            self.client.bells.ring(client)

    def ring_all_but(self, me: MemberId | None) -> None:
        """Wake the other members; without the mutex, for a lost post costs only time."""
        self.ring([one.client for one in self.members.members() if one.id != me])

    def close(self) -> None:
        """Close the files. Idempotent."""
        self.offsets.close()
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)
