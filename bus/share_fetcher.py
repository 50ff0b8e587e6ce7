"""What a share consumer reads through: a reader, and an ack table, for each partition."""

import logging
import time
from contextlib import suppress
from typing import Any, Final

from bus.assignment import Partition
from bus.client import Client
from bus.cold import ColdSegments
from bus.errors import BrokerNotRunningError
from bus.fetching import Fetching
from bus.lease import Lease
from bus.log import BothTiers
from bus.native.core import LAYOUT, AckTable, HotLog, ShareCursor
from bus.native.core import Partition as Log
from bus.options import ShareOptions
from bus.positions import Positions
from bus.serializers.choice import key_deserializer, value_deserializer
from bus.share_group import ShareSession
from bus.structs import TopicPartition

logger = logging.getLogger(__name__)

#: the longest sleep, in seconds; in between, the dead are looked for
SLICE_S: Final = 2.0
#: how often the committed offset is brought up to date while work is done, in seconds
COMMIT_S: Final = 0.1
#: the same if producers wait for this, in a topic with max.lag.records or max.lag.bytes
COMMIT_LIMITED_S: Final = 0.01
_DELETED: Final = LAYOUT["BUS_FLAG_DELETED"]


class ShareReader(BothTiers, ShareCursor):
    """The records of one partition that a member has claimed, from either tier."""

    log: HotLog

    def __init__(
        self,
        lease: Lease,
        acks: AckTable,
        log: Log,
        topic_partition: TopicPartition,
        options: ShareOptions,
    ) -> None:
        super().__init__(
            acks,
            log,
            topic_partition.topic,
            generation=lease.client.slot.generation,
            owner=lease,
            check_crcs=options.check_crcs,
            durable_only=options.read_until == "durable",
            key_deserializer=key_deserializer(options.key_deserializer),
            value_deserializer=value_deserializer(options.value_deserializer),
        )
        #: says whether producers wait for consumers of this partition
        self.page = log
        path = lease.client.directory.partition_path(*topic_partition)
        self._cold = ColdSegments(path, log, topic_partition)


class ShareFetcher(Fetching[ShareReader]):
    """The readers of one share consumer. Used by one thread at a time."""

    _LEFT = ", and what was not acknowledged comes again"

    def __init__(self, client: Client, options: ShareOptions) -> None:
        super().__init__(client)  # resume_at stays empty: the ack tables say what is to be read
        self._options = options
        self._positions = Positions(client)
        self._session = ShareSession(client, options.group_id, options.mode)
        self._topics: frozenset[int] = frozenset()
        self._commit_due = time.monotonic() + COMMIT_S
        self._reap_due = 0.0

    def _coordinate(self) -> None:
        super()._coordinate()
        now = time.monotonic()
        if now >= self._commit_due:
            self._commit_due = now + self._commit_pause_s
            self.commit()
        if now >= self._reap_due:
            self._reap_due = now + SLICE_S
            self._session.reap_dead([reader.acks for reader in self.readers.values()])

    def _follow_catalog(self) -> None:
        topics = self._existing(self.subscription.topics).values()
        wanted = {
            TopicPartition(topic.name, number)
            for topic in topics
            for number in range(topic.partitions)
        }
        gone = {tp for tp, reader in self.readers.items() if reader.log.flags & _DELETED}
        for tp in gone | (self.readers.keys() - wanted):
            self._drop(tp)
        ids = frozenset(topic.id for topic in topics)
        if ids != self._topics:
            self._session.join(ids)
            self._topics = ids
        for tp in sorted(wanted - self.readers.keys()):
            self.readers[tp] = self._open(tp)

    def _open(self, tp: TopicPartition) -> ShareReader:
        log = self._positions.log(tp)
        start = self._positions.start(tp, self._options.auto_offset_reset)
        acks = self._session.open_acks(*tp, start)
        return ShareReader(self._lease, acks, log, tp, self._options)

    def _drop(self, tp: TopicPartition) -> None:
        reader = self.readers.pop(tp)
        with suppress(BrokerNotRunningError):  # the topic was deleted, and all claims with it
            reader.detach()
        reader.close()

    @property
    def _commit_pause_s(self) -> float:
        limited = any(reader.page.lag_words[0] for reader in self.readers.values())
        return COMMIT_LIMITED_S if limited else COMMIT_S

    def _lows(self) -> dict[Partition, int]:
        return {reader.acks.identity[2:]: reader.acks.low for reader in self.readers.values()}

    def commit(self) -> None:
        """Store how far each partition is done as the group's committed offset."""
        if lows := self._lows():
            self._session.commit(lows)

    @property
    def commit_ns(self) -> int:
        """From then on what has been done since is committed, on the monotonic clock."""
        return int(self._commit_due * 1e9)

    def due_ns(self) -> int:
        """When `coordinate` wants to be called again, on the monotonic clock."""
        due = time.monotonic() + SLICE_S
        if not self._session.is_committed(self._lows()):
            due = min(due, self._commit_due)
        return int(due * 1e9)

    def close(self) -> None:
        """Give back what is held, commit, leave. The client closes with the last record held."""
        try:
            if not self._is_over() and not self.client.stale:
                for reader in self.readers.values():
                    reader.detach()
                self.commit()
                self._session.close()
        finally:
            for reader in self.readers.values():
                reader.close()
            self.readers = {}
            del self._lease

    def abandon(self) -> None:
        """In a forked child, or after a move: forget the readers; touch nothing shared."""
        self.readers = {}
        self._lease.pass_on()
        self._session.close(leave=False)

    def figures(self) -> dict[TopicPartition, dict[str, Any]]:
        """Counters of each ack table."""
        return {tp: reader.acks.figures() for tp, reader in self.readers.items()}
