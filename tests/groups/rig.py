"""A group without a broker: the shared files in a directory, and clients that hold real locks."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import posix_ipc

from bus.assignment import Partition
from bus.group import GroupMembership
from bus.liveness import lock_byte
from bus.members import MemberTable
from bus.members_file import create_members_file
from bus.native.core import LAYOUT, Bells, Table
from bus.offsets import OffsetTable, create_offsets_file

GROUP = "group"
GROUP_ID = 5
BUS_ID = 0xB05


class Slot(NamedTuple):
    slot: int
    generation: int


class Rig:
    """The files of one bus with one group. `counts` maps topic ids to numbers of partitions."""

    def __init__(self, path: Path, counts: dict[int, int]) -> None:
        self.path = path
        self.counts = counts
        for name in ("hot", "groups"):
            (path / name).mkdir(mode=0o700)
        (path / "clients.lock").touch(mode=0o600)
        self.hot_fd = os.open(path / "hot", os.O_RDONLY | os.O_DIRECTORY)
        create_members_file(self.hot_fd, bus_id=BUS_ID, group_id=GROUP_ID)
        fd = self.open_groups()
        create_offsets_file(fd, GROUP, bus_id=BUS_ID, group_id=GROUP_ID)
        os.close(fd)
        control = os.open(path / "hot/bus.ctl", os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(control, 0, LAYOUT["sizeof.bus_control"])
        self.control = Table(control, LAYOUT["sizeof.bus_control"])
        os.close(control)
        self.control.store_release(LAYOUT["bus_control.hot_id"], os.getpid())
        self.control.store_release(LAYOUT["bus_control.bus_id"], id(self) & 0xFFFFFFFF)
        self.next_slot = 0

    def open_groups(self) -> int:
        return os.open(self.path / "groups", os.O_RDONLY | os.O_DIRECTORY)

    def open_clients_lock(self) -> int:
        return os.open(self.path / "clients.lock", os.O_RDWR | os.O_CLOEXEC)

    def count_of(self, topic: int) -> int:
        return self.counts.get(topic, 0)

    def client(self, slot: int | None = None) -> "RigClient":
        if slot is None:
            slot, self.next_slot = self.next_slot, self.next_slot + 1
        return RigClient(self, slot)

    def members(self, **options: Any) -> MemberTable:
        return MemberTable.open(self.hot_fd, GROUP_ID, **options)

    def offsets(self) -> OffsetTable:
        fd = self.open_groups()
        try:
            return OffsetTable.open(fd, GROUP)
        finally:
            os.close(fd)

    def join(self, *topics: int, **options: Any) -> GroupMembership:
        membership = GroupMembership(self.client(), GROUP, **options)
        membership.join(topics)
        return membership


class RigClient:
    """What a membership sees of a client: it holds its byte of clients.lock."""

    def __init__(self, rig: Rig, slot: int) -> None:
        self.directory = rig
        self.control = rig.control
        self.hot_fd = rig.hot_fd
        self.bells = Bells(rig.control)
        self.client_id = f"client-{slot}"
        at = LAYOUT["bus_control.clients"] + slot * LAYOUT["sizeof.bus_client"]
        generation = rig.control.add(at + LAYOUT["bus_client.generation"], 1) + 1
        self.slot = Slot(slot, generation)
        self.lock_fd = rig.open_clients_lock()
        assert lock_byte(self.lock_fd, slot)
        self.rung: list[int] = []

    def call(self, op: str, **args: Any) -> dict[str, Any]:
        assert op == "group"
        return {"id": GROUP_ID, "name": args["name"]}

    def attached(self, topic_id: int, partition: int) -> None:
        """It reads nothing."""

    def die(self) -> None:
        """Let go of the byte, as the kernel does for a dead process."""
        os.close(self.lock_fd)

    def make_doorbell(self) -> None:
        """A real doorbell; `remove_doorbell` unlinks it."""
        posix_ipc.Semaphore(self.bells.name(self.slot.slot), posix_ipc.O_CREX, 0o600).close()

    def remove_doorbell(self) -> None:
        posix_ipc.unlink_semaphore(self.bells.name(self.slot.slot))


def settle(rig: Rig, *memberships: GroupMembership) -> list[frozenset[Partition]]:
    """Poll all members until nobody has anything to do; what each one owns then."""
    for _ in range(20):
        due = [one for one in memberships if one.needs_rebalance]
        if not due:
            return [one.owned for one in memberships]
        for one in due:
            poll(rig, one)
    raise AssertionError("the group does not settle")


def poll(rig: Rig, membership: GroupMembership) -> None:
    """What a consumer does at a poll."""
    revoked = membership.plan(rig.count_of)
    if revoked:
        membership.release(revoked)
    membership.acquire()


@contextmanager
def child(body: Callable[[], None]) -> Iterator[int]:
    """A forked process that runs `body` and then stays until it is killed; yields its pid."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os.write(done, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(done)
    try:
        os.read(ready, 1)  # a byte, or the end of the file when it died
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class DyingTable:
    """A table whose process is killed instead of making store number `last`."""

    def __init__(self, table: Table, last: int) -> None:
        self._table = table
        self._left = last

    def __getattr__(self, name: str) -> Any:
        if name in ("view", "store_release", "store32_release", "add"):
            # Fields are packed into `view`: looking at it counts as a store, which is one more
            # instant to die at, not one less.
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
        return getattr(self._table, name)
