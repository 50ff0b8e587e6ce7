"""A whole bus in this process, stepped by hand: what broker, replicas, producers and groups do.

The parts are those of the real processes (`bus.supervisor` puts them together in the same order);
only sockets, signals and forks are missing, so each step happens when a test says so, and the same
seed gives the same sequence of operations on the disk.
"""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from bus.config import BrokerConfig
from bus.control import Request
from bus.daemon import take_broker_lock
from bus.directory import BROKER_LOCK, RUNTIME_FILE, BusDirectory, Runtime
from bus.groups import Groups
from bus.hotdir import open_or_create
from bus.inventory import Inventory
from bus.log import PartitionReader
from bus.milestones import note_durable
from bus.native.core import Bells, Partition, ProducerCore, Route
from bus.open_partition import OpenPartition
from bus.operations import Operations
from bus.replica import Follower
from bus.structs import TopicPartition
from bus.syncer import PROBE
from tests.power import promises
from tests.power.promises import Found, Key

Note = Callable[[object], None]
#: In the place of a syncer: a disk that answers at once.
_DISK: Any = SimpleNamespace(is_busy=False, ask=lambda _groups, done: done({PROBE: None}))


class Appender(ProducerCore):  # type: ignore[misc]
    """Appends to the partitions of an inventory, without a client."""

    def __init__(self, control: Any, inventory: Inventory) -> None:
        self._inventory = inventory
        self._start(
            control,
            wait_durable=True,
            max_block_ns=0,
            sticky_bytes=1 << 20,
            key_serializer=None,
            value_serializer=None,
            partitioner=None,
        )

    def _route(self, topic: str) -> Route:
        found = self._inventory.find(topic)
        assert found is not None, f"no topic {topic}"
        logs = [self._inventory.partition(topic, n).log for n in range(found.partitions)]
        for log in logs:
            log.attention = lambda _log, _need: None  # the machine tends them itself
        return Route(topic, logs, 0)


class NotedFollower(Follower):
    """A replica that says what it publishes, at the moment it does."""

    def __init__(self, source: Partition, dir_fd: int, noted: Callable[[int], None]) -> None:
        super().__init__(source, dir_fd)
        self._noted = noted

    def _publish(self, offset: int, fsync_ns: int) -> None:
        super()._publish(offset, fsync_ns)
        self._noted(offset)


class Machine:
    """One start of a bus, from its lock to its end. `note` is told of every promise."""

    def __init__(self, path: Path, hot: Path, note: Note = lambda _: None) -> None:
        self.path = path
        self._hot_path = hot
        self._note = note
        self._lock_fd = -1
        self._followers: dict[Key, NotedFollower] = {}
        self.commits: dict[str, dict[Key, int]] = {}

    def start(self) -> Self:
        """What `bus.supervisor` does before it serves."""
        self.directory = BusDirectory.create(self.path)
        self._lock_fd = take_broker_lock(self.directory)
        epoch = self.directory.raise_epoch()
        self.hot, self.adopted = open_or_create(self.directory, self._hot_path)
        bells = Bells(self.hot.control)
        self.inventory = Inventory(self.directory, self.hot, bells, epoch)
        self.inventory.open_all()
        self.groups = Groups(self.directory, self.hot, bells, self.inventory.catalog)
        self.groups.open_all(fence=False)
        runtime = self.hot.take_over(self.directory, epoch, autostarted=False)
        self._operations = self._make_operations(runtime)
        self._appender = Appender(self.hot.control, self.inventory)
        self.commits = {
            group.name: {key: one.offset for key, one in group.offsets.read().items()}
            for group in self.groups
        }
        return self

    def _make_operations(self, runtime: Runtime) -> Operations:
        keeper: Any = SimpleNamespace(add=lambda _: None, remove=self._dismiss)
        nothing: Any = SimpleNamespace(collect=None, lock_fd=-1)
        return Operations(
            self.directory,
            self.hot,
            runtime,
            BrokerConfig(),
            self.inventory,
            self.groups,
            keeper,
            nothing,
            nothing,
            stop=lambda: None,
        )

    def _ask(self, op: str, **args: Any) -> dict[str, Any]:
        session: Any = None
        return self._operations.answer(session, Request(op, 1, args))

    # --------------------------------------------------------------------------------- topics

    def create_topic(self, name: str, partitions: int, **configs: object) -> None:
        named = {key.replace("_", "."): str(value) for key, value in configs.items()}
        request = {"name": name, "partitions": partitions, "configs": named}
        [made] = self._ask("create_topics", topics=[request])["topics"]
        self._note(promises.TopicMade(name, made["id"], partitions))

    def grow_topic(self, name: str, total: int) -> None:
        made = self._ask("create_partitions", name=name, total=total)["topic"]
        self._note(promises.TopicMade(name, made["id"], total))

    def delete_topic(self, name: str) -> None:
        self._note(promises.TopicLeaving(name))
        self._ask("delete_topics", names=[name])
        self._note(promises.TopicDeleted(name))

    def delete_records(self, key: Key, offset: int) -> None:
        self._note(promises.StartAsked(key, offset))
        name = self.partition(key).topic.name
        self._ask("delete_records", name=name, partition=key[1], offset=offset)
        self._note(promises.StartMoved(key, offset))

    def partitions(self) -> list[Key]:
        """Every partition."""
        return sorted((one.topic.id, one.number) for one in self.inventory.partitions())

    def partition(self, key: Key) -> OpenPartition:
        found = self.inventory.by_id(*key)
        assert found is not None, f"no partition {key}"
        return found

    # -------------------------------------------------------------------------------- records

    def send(self, key: Key, value: bytes) -> int:
        """Append a record; its offset."""
        partition = self.partition(key)
        future = self._appender.send(partition.topic.name, value, partition=key[1])
        self._note(promises.Appended(key, future.offset, value))
        self.inventory.tend(partition)
        return int(future.offset)

    def roll(self, key: Key) -> None:
        """Seal the active segment, as retention by time does."""
        partition = self.partition(key)
        self.inventory.rings.feed(partition.log)
        partition.log.roll()

    def unsynced_bytes(self, key: Key) -> int:
        """About how much of the hot log is not durable yet."""
        log = self.partition(key).log
        return (log.log_end_offset - log.high_watermark) and sum(
            slot.bytes for slot in log.ring() if slot.number and not slot.end_offset
        )

    def step(self, key: Key) -> bool:
        """One step of the partition's replica; False if it has nothing to do."""
        follower = self._followers.get(key) or self._hire(key)
        has_worked = follower.step()
        note_durable([self.partition(key)], self.inventory._store, _DISK)
        return has_worked

    def drain(self, key: Key) -> None:
        """Until the replica has nothing to do."""
        while self.step(key):
            pass

    def _hire(self, key: Key) -> NotedFollower:
        partition = self.partition(key)
        dir_fd = self.directory.open_partition(partition.topic.name, key[1])
        log = Partition(self.hot.fd, *key, Bells(self.hot.control), 0)
        follower = NotedFollower(
            log, dir_fd, lambda offset: self._note(promises.Watermark(key, offset))
        )
        self._followers[key] = follower
        follower.resume()
        return follower

    def _dismiss(self, topic_id: int) -> None:
        """The keeper ends the replicas of a topic before its files go."""
        for key in [key for key in self._followers if key[0] == topic_id]:
            self._followers.pop(key).close()

    # --------------------------------------------------------------------------------- groups

    def commit(self, group: str, key: Key, offset: int) -> None:
        """What a consumer's commit does, under the group's mutex."""
        if group not in self.commits:
            self._ask("group", name=group, create=True)
            self.commits[group] = {}
            self._note(promises.GroupMade(group))
        self._note(promises.Committed(group, key, offset))
        table = self.groups.get(group).offsets
        table.put({key: (offset, b"")}, generation=1, timestamp_ns=1)
        self.commits[group][key] = offset

    def sync_groups(self) -> None:
        """The broker's sync, once a second."""
        before = {group: dict(offsets) for group, offsets in self.commits.items()}
        self.groups.sync()
        for group, offsets in before.items():
            self._note(promises.Synced(group, offsets))

    # ------------------------------------------------------------------------------- the ends

    def stop(self) -> None:
        """A clean stop."""
        self.inventory.fence()
        for key in self.partitions():
            self.drain(key)
        self._close_followers()
        assert self.inventory.store_clean_ends(), "something is not durable"
        self.sync_groups()
        self.inventory.mark_gone()
        self.hot.remove()
        with suppress(FileNotFoundError):
            os.unlink(RUNTIME_FILE, dir_fd=self.directory.fd)
        self._close()

    def lose_power(self) -> None:
        """The memory is gone, and all processes with it. What was not synced is another matter."""
        self._close_followers()
        self.hot.remove()
        self._close()

    def _close_followers(self) -> None:
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    def _close(self) -> None:
        for group in self.groups:
            group.offsets.close()
        self.directory.close()
        os.close(self._lock_fd)

    def abandon(self) -> None:
        """kill -9: nobody cleans up; only the lock is free, as the kernel would see to."""
        lock = str(self.path / BROKER_LOCK)
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            with suppress(OSError):  # the descriptor of the list itself is closed by now
                is_ours = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
                if is_ours and os.readlink(f"/proc/self/fd/{fd}") == lock:
                    os.close(fd)

    # -------------------------------------------------------------------------------- reading

    def found(self) -> Found:
        """All that this bus holds, read the way consumers read it."""
        found = Found({one.name: (one.id, one.partitions) for one in self.inventory.topics()})
        for key in self.partitions():
            log = self.partition(key).log
            found.starts[key], found.ends[key] = log.log_start_offset, log.log_end_offset
            found.records[key] = self.read(key)
        for group in self.groups:
            table = group.offsets.read()
            found.groups[group.name] = {key: one.offset for key, one in table.items()}
        return found

    def read(self, key: Key) -> list[tuple[int, bytes]]:
        """Offset and value of every record of a partition, from its start to its end."""
        partition = self.partition(key)
        log = partition.log
        lease: Any = SimpleNamespace(
            client=SimpleNamespace(slot=SimpleNamespace(generation=1), directory=self.directory)
        )
        where = TopicPartition(partition.topic.name, key[1])
        reader = PartitionReader(lease, log, where, log.log_start_offset)
        records: list[tuple[int, bytes]] = []
        idle = 0
        try:
            while reader.offset < log.log_end_offset:
                before = reader.offset
                records += [(one.offset, bytes(one.value)) for one in reader.take(1000)]
                # the end of a segment and a gap give no record, but lead on
                idle = 0 if reader.offset != before else idle + 1
                assert idle < 8, f"{key}: nothing comes at {before}"
        finally:
            reader.close()
        return records
