"""All partitions that the broker has open: made, recovered, adopted, tended, deleted.

Order of writes, so that a death between any two loses nothing: the topic on disk, the state of
its partitions on disk (it reserves the offsets), the hot files, then `catalog_version`.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from bus import replica_lock
from bus.adoption import check_adoptable, settle_state
from bus.catalog import Catalog, Topic
from bus.config import BrokerConfig
from bus.directory import BusDirectory
from bus.durable import list_segments, open_dir, remove_segments
from bus.errors import (
    BusError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from bus.hotdir import HotDirectory
from bus.milestones import note_durable
from bus.native.core import Bells, Partition
from bus.open_partition import OpenPartition
from bus.rebuilding import rebuild
from bus.recovery import recover
from bus.replica import STATE_FAILED
from bus.replica_process import REPORT_FILE
from bus.retention import segments_below
from bus.rings import Rings, is_filling
from bus.state import (
    CleanEnd,
    PartitionState,
    load_state,
    needs_offsets,
    offset_limit_for,
    state_path,
    store_state,
)
from bus.syncer import Syncer

logger = logging.getLogger(__name__)

#: The broker sleeps on no doorbell; the core wants a slot all the same.
NO_SLOT = 0


class Inventory:
    """The topics of a bus and their hot partitions, in one hot directory."""

    def __init__(
        self, directory: BusDirectory, hot: HotDirectory, bells: Bells, epoch: int
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._bells = bells
        self.catalog = Catalog(directory)
        self.rings = Rings(hot.fd, epoch)
        self._topics: dict[str, Topic] = {}
        self._partitions: dict[tuple[str, int], OpenPartition] = {}
        #: partitions rebuilt from durable segments, and those taken over with their hot log
        self.recovered = 0
        self.adopted = 0

    # ------------------------------------------------------------------------------- starting

    def open_all(self, progress: Callable[[], None] = lambda: None) -> list[OpenPartition]:
        """Opens every partition of the catalog: adopts its hot log if there is one."""
        self.catalog.sweep()
        opened = []
        for topic in self.catalog.topics():
            self._topics[topic.name] = topic
            for number in range(topic.partitions):
                opened.append(self._open(topic, number))
                progress()
            self.catalog.opened(topic)
        swept = self.rings.sweep(
            {
                (partition.topic.id, partition.number): {s.serial for s in partition.log.ring()}
                for partition in opened
            }
        )
        if swept:
            logger.info("removed %d hot files that a dead broker had left over", swept)
        return opened

    def _open(self, topic: Topic, number: int) -> OpenPartition:
        state = load_state(self._directory, topic.name, number)
        if state is not None and self._save(topic, number, state):
            state = load_state(self._directory, topic.name, number)
        adopt = state is not None and self.rings.has_page(topic.id, number)
        if adopt and state is not None:
            partition = OpenPartition(topic, number, self._attach(topic, number), state)
            self._adopt(partition)
            self.adopted += 1
        else:
            partition = self._build(topic, number, state)
        partition.log.close_lag_gate(topic.config.lag_limited)
        self._partitions[topic.name, number] = partition
        return partition

    def _save(self, topic: Topic, number: int, state: PartitionState) -> bool:
        """Makes the hot log from the one that was put aside; False if there is nothing to save."""
        if self._hot.aside is None or state.clean_end is not None:
            return False
        self._end_replica(topic, number)
        return rebuild(self._directory, self._hot, self._bells, self.rings, topic, number, state)

    def _attach(self, topic: Topic, number: int) -> Partition:
        log = Partition(self._hot.fd, topic.id, number, self._bells, NO_SLOT)
        log.name = f"{topic.name}-{number}"
        return log

    def _adopt(self, partition: OpenPartition) -> None:
        """A clean stop that was cut short may have written a clean end, and fenced the log."""
        check_adoptable(self._hot.fd, self._directory.bus_id, partition)
        settle_state(self._directory, partition)
        if partition.state.clean_end is not None:
            self._store(partition, replace(partition.state, clean_end=None))
        self.reserve_offsets(partition)
        partition.log.set_offset_limit(partition.state.offset_limit)
        partition.log.set_log_start(partition.state.log_start_offset)
        self._apply_settings(partition)

    def _end_replica(self, topic: Topic, number: int) -> None:
        """Of a hot log that is gone: its replica, and its report of damage."""
        dir_fd = self._directory.open_partition(topic.name, number, create=True)
        try:
            replica_lock.end_orphan(dir_fd, f"{topic.name}-{number}")
            with suppress(FileNotFoundError):
                os.unlink(REPORT_FILE, dir_fd=dir_fd)
        finally:
            os.close(dir_fd)

    def _build(self, topic: Topic, number: int, state: PartitionState | None) -> OpenPartition:
        """A new hot log, after what the durable segments hold."""
        self._end_replica(topic, number)
        plan = recover(self._directory.partition_path(topic.name, number), state)
        self.rings.remove_inherited(topic.id, number)
        store_state(self._directory, topic.name, number, plan.state)
        config = topic.config
        Partition.create(
            self._hot.fd,
            bus_id=self._directory.bus_id,
            topic_id=topic.id,
            partition=number,
            flags=topic.flags,
            segment_bytes=config.segment_bytes,
            hot_bytes=config.hot_bytes,
            max_message_bytes=config.max_message_bytes,
            offset_limit=plan.state.offset_limit,
            log_start_offset=plan.log_start_offset,
            base_offset=plan.base_offset,
            previous_end=plan.previous_end,
            number=plan.number,
        )
        if state is not None:
            self.recovered += 1
            logger.info(
                "%s-%d goes on at offset %d; the log before it ends at %d",
                topic.name,
                number,
                plan.base_offset,
                plan.previous_end,
            )
        return OpenPartition(topic, number, self._attach(topic, number), plan.state)

    # --------------------------------------------------------------------------------- asking

    def topics(self) -> list[Topic]:
        """Every topic, by name."""
        return [self._topics[name] for name in sorted(self._topics)]

    def find(self, name: str) -> Topic | None:
        """The topic of that name, None if there is none."""
        return self._topics.get(name)

    def partitions(self) -> Iterator[OpenPartition]:
        """Every open partition."""
        yield from self._partitions.values()

    def by_id(self, topic_id: int, number: int) -> OpenPartition | None:
        """One partition by the id of its topic; None if the topic was deleted."""
        name = next((one.name for one in self._topics.values() if one.id == topic_id), "")
        return self._partitions.get((name, number))

    def partition(self, name: str, number: int) -> OpenPartition:
        """One partition. Raises UnknownTopicOrPartitionError."""
        found = self._partitions.get((name, number))
        if found is not None:
            return found
        topic = self.catalog.get(name)
        raise UnknownTopicOrPartitionError(
            f"topic {name!r} has no partition {number}; it has 0 to {topic.partitions - 1}"
        )

    def keeps_alive(self, config: BrokerConfig) -> bool:
        """True if a broker stays without clients, for records that are gone when it stops."""
        return config.stays_for_memory and any(
            partition.log.log_end_offset > partition.log.hot_start_offset
            for partition in self.partitions()
            if not partition.is_replicated
        )

    # ------------------------------------------------------------------------------- changing

    def create(self, topic: Topic) -> list[OpenPartition]:
        """Opens the partitions of a topic that the catalog has just made."""
        opened = [self._open(topic, number) for number in range(topic.partitions)]
        self.catalog.opened(topic)
        self._topics[topic.name] = topic
        self._hot.catalog_changed()
        return opened

    def grow(self, topic: Topic) -> list[OpenPartition]:
        """Opens the partitions that the topic has got in addition."""
        before = self._topics[topic.name].partitions
        self._replace(topic)
        opened = [self._open(topic, number) for number in range(before, topic.partitions)]
        self.catalog.opened(topic)
        self._hot.catalog_changed()
        return opened

    def shrink(self, topic: Topic) -> None:
        """Gives up the partitions above the topic's number: they could not all be opened."""
        grown = self._topics[topic.name]
        self._replace(topic)
        for number in range(topic.partitions, grown.partitions):
            self._partitions.pop((topic.name, number), None)
            self.rings.remove(topic.id, number)
            # no record was ever in it
            self._directory.remove_truth(state_path(topic.name, number))

    def alter(self, topic: Topic) -> None:
        """Makes changed configs effective."""
        self._replace(topic)
        for partition in self._of(topic.name):
            self._apply_settings(partition)
            with partition.or_later(self._hot.incidents):
                self.rings.feed(partition.log)
        self._hot.catalog_changed()

    def _replace(self, topic: Topic) -> None:
        self._topics[topic.name] = topic
        for partition in self._of(topic.name):
            partition.topic = topic

    def _of(self, name: str) -> list[OpenPartition]:
        return [partition for partition in self.partitions() if partition.topic.name == name]

    def _apply_settings(self, partition: OpenPartition) -> None:
        config = partition.topic.config
        partition.log.set_settings(
            flags=partition.topic.flags,
            segment_bytes=config.segment_bytes,
            hot_bytes=config.hot_bytes,
            max_message_bytes=config.max_message_bytes,
        )

    def forget(self, topic: Topic) -> None:
        """Takes a topic out of shared memory; whoever waits on it is woken and told.

        The caller removes it from the catalog and then tells the clients to look.
        """
        self._topics.pop(topic.name, None)
        for partition in self._of(topic.name):
            partition.is_deleted = True
            del self._partitions[topic.name, partition.number]
            self.rings.remove(topic.id, partition.number)
            with partition.or_later(self._hot.incidents):
                partition.log.mark_deleted()

    # -------------------------------------------------------------------------------- tending

    def tend(self, partition: OpenPartition, need: int = 0) -> None:
        """Offsets and a spare for a partition whose producer asked, or soon will.

        `need` is the size in bytes of the hot file that a producer waits for. If a stopped process
        holds the partition's lock, that is left for the next tick, or until a producer asks again.
        """
        self.reserve_offsets(partition)
        with partition.or_later(self._hot.incidents):
            self.rings.feed(partition.log, need, ahead=is_filling(partition.log))

    def tend_all(self, syncer: Syncer | None) -> None:
        """Looks after every partition whose log has moved; what waits for the disk, by `syncer`."""
        for partition in list(self.partitions()):
            tail = partition.log.tail
            if tail == partition.seen_tail:
                continue
            partition.seen_tail = tail
            try:
                self.tend(partition)
            except BusError as error:  # a full disk: try again
                logger.error("%s: %s", partition.name, error)
                partition.seen_tail = (0, 0)
        if syncer is not None:
            note_durable(self._partitions.values(), self._store, syncer)

    def reserve_offsets(self, partition: OpenPartition) -> None:
        """Raises the offset limit, on disk first, when the log comes near it."""
        log = partition.log
        end = log.log_end_offset
        if not needs_offsets(end, partition.state.offset_limit):
            return
        self._store(partition, replace(partition.state, offset_limit=offset_limit_for(end)))
        log.set_offset_limit(partition.state.offset_limit)

    def raise_log_start(self, partition: OpenPartition, offset: int) -> int:
        """Gives up all records below `offset`; returns the new log start offset.

        Raises OffsetOutOfRangeError for an offset above the log end.
        """
        log = partition.log
        end = log.log_end_offset
        if not 0 <= offset <= end:
            raise OffsetOutOfRangeError(
                f"{partition.name}: records can be deleted up to offset {end}, not {offset}"
            )
        if offset > partition.state.log_start_offset:
            self._store(partition, replace(partition.state, log_start_offset=offset))
            log.set_log_start(offset)
            self._remove_below(partition, offset)
        return partition.state.log_start_offset

    def _remove_below(self, partition: OpenPartition, offset: int) -> None:
        if not partition.is_replicated:
            # or they go when the ring needs their place
            with partition.or_later(self._hot.incidents):
                partition.log.retire_before(offset)
            return
        with open_dir(self._directory.partition_path(partition.topic.name, partition.number)) as fd:
            bases = list_segments(fd)
            remove_segments(fd, bases[: segments_below(bases, offset)])

    def reap(self, slot: int, generation: int) -> bool:
        """Frees the readers of a client that is proven dead, and whose byte the caller holds.

        False if a stopped process holds the lock of a partition where that client has some.
        """
        incidents = self._hot.incidents
        freed = [one.reap(incidents, slot, generation) for one in self.partitions()]
        return all(freed)

    # --------------------------------------------------------------------------------- ending

    def fence(self) -> None:
        """No further record is accepted anywhere: the bus is being stopped."""
        for partition in self.partitions():
            partition.fence(self._hot.incidents)

    def mark_gone(self) -> None:
        """Tells whoever still has a hot log mapped that it leads nowhere any more."""
        for partition in self.partitions():
            with partition.or_later(self._hot.incidents):
                partition.log.mark_deleted()

    def store_clean_ends(self) -> bool:
        """Writes where each log ended; False if a hot log holds what is not durable yet.

        Or if a stopped process holds its lock: once it continues, it may append one more record,
        and report it as stored; so the hot log must be there, and be taken on by the next broker.
        What a replica that stopped for damage left behind can never become durable: it is lost.
        """
        complete = True
        for partition in self.partitions():
            log = partition.log
            if partition.is_unfenced:
                partition.fence(self._hot.incidents)
            end = log.log_end_offset
            missing = end - log.high_watermark if partition.is_replicated else 0
            if partition.is_unfenced:
                complete = False  # who is stopped in it was said already
            elif missing == 0:
                start = partition.state.log_start_offset if partition.is_replicated else end
                clean = CleanEnd(end, log.tail[0])
                state = replace(partition.state, log_start_offset=start, clean_end=clean)
                self._store(partition, state)
            elif log.replica_state == STATE_FAILED:
                logger.error("%s: %d records are lost: not durable", partition.name, missing)
            else:
                logger.error("%s: %d records are not durable yet", partition.name, missing)
                complete = False
        return complete

    def _store(self, partition: OpenPartition, state: PartitionState) -> None:
        store_state(self._directory, partition.topic.name, partition.number, state)
        partition.state = state
