"""What a consumer reads now, and how far: readers, their positions, the group's wishes, commits.

The consumer asks in this order, at every step: `coordinate` (what do I own?), then `take` or
`next_reader` (what is there?), then `sleep` (wake me when there is more).
"""

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from bus.catalog import Topic
from bus.client import Client
from bus.errors import (
    CommitFailedError,
    IllegalStateError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownMemberIdError,
)
from bus.fetching import Fetching
from bus.log import PartitionReader
from bus.native.core import LAYOUT, Partition
from bus.options import ConsumerOptions
from bus.patience import HELD_UP_S
from bus.positions import Positions
from bus.serializers.choice import key_deserializer, value_deserializer
from bus.session import GroupSession, Partitions
from bus.structs import OffsetAndMetadata, TopicPartition

logger = logging.getLogger(__name__)

#: the longest sleep, in seconds; in between, the dead are looked for
SLICE_S: Final = 2.0
#: the same while a hand-over is awaited, should its doorbell ever get lost
PENDING_S: Final = 0.05
_DELETED: Final = LAYOUT["BUS_FLAG_DELETED"]


def guest_reader() -> "type[PartitionReader]":
    """What reads a partition of another user's bus; loaded only where it is needed."""
    from bus.guest_reader import GuestReader

    return GuestReader  # type: ignore[return-value]  # the same face, without a place in the ring


class Fetcher(Fetching[PartitionReader]):
    """The readers of one consumer. Used by one thread at a time."""

    def __init__(self, client: Client, options: ConsumerOptions) -> None:
        super().__init__(client)
        self.positions = Positions(client)
        self.session: GroupSession | None = None
        self._options = options
        #: assigned, but without a position yet, and so without a reader
        self._unplaced: set[TopicPartition] = set()
        self._joined: frozenset[int] = frozenset()
        self._commit_due = time.monotonic() + options.auto_commit_interval_ms / 1e3
        self._reap_due = 0.0
        if options.group_id is not None:
            self.session = GroupSession(
                client, options.group_id, options.partition_assignment_strategy
            )

    # ------------------------------------------------------------------ what is to be read

    def _coordinate(self) -> None:
        super()._coordinate()
        if self.session is not None:
            self._attend(self.session)
        if self._unplaced:
            self._place()

    def _attend(self, session: GroupSession) -> None:
        with session.membership.patience.passing():
            if session.rebalance_due:
                self._rebalance(session)
            now = time.monotonic()
            if now >= self._commit_due:
                self.auto_commit()
            if now >= self._reap_due:
                self._reap_due = now + SLICE_S
                session.reap_dead()

    def follow_subscription(self) -> None:
        """The subscription has changed."""
        super().follow_subscription()
        if self.subscription.is_manual:
            for tp in self.subscription.partitions:
                self.positions.log(tp)  # raises if there is no such partition
            self._read(self.subscription.partitions)
            with suppress(NoOffsetForPartitionError):  # there is time for a seek until poll()
                self._place()
        elif not self.subscription.is_automatic:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self.session is not None and self.session.membership.joined:
            self.auto_commit()
            self.session.leave()
        self._joined = frozenset()
        self._read(frozenset())

    def _follow_catalog(self) -> None:
        self._drop(frozenset(tp for tp, r in self.readers.items() if r.log.flags & _DELETED))
        if self.subscription.is_manual:
            topics = self._existing({tp.topic for tp in self.subscription.partitions})
            self._read(frozenset(tp for tp in self.subscription.partitions if tp.topic in topics))
        elif self.subscription.is_automatic:
            names = [topic.name for topic in self.client.topics()]
            self._follow_topics(self._existing(self.subscription.matching(names)))

    def _follow_topics(self, topics: Mapping[str, Topic]) -> None:
        ids = frozenset(topic.id for topic in topics.values())
        if self.session is None:
            self._read(
                frozenset(
                    TopicPartition(name, number)
                    for name, topic in topics.items()
                    for number in range(topic.partitions)
                )
            )
        elif ids != self._joined or not self.session.membership.joined:
            self.session.join(topics)
            self._joined = ids
        else:
            self.session.topics_changed()

    def _rebalance(self, session: GroupSession) -> None:
        try:
            gained = session.rebalance(self._revoke, self._lose)
        except UnknownMemberIdError as error:
            logger.warning("group %r: %s; joining again", self._options.group_id, error)
            self._joined = frozenset()
            self._drop(frozenset(self.assigned))  # whatever it still reads, it owns nothing
            self._follow_catalog()
            return
        if not gained:
            return
        self._unplaced |= gained
        with suppress(NoOffsetForPartitionError):  # the listener may seek; else poll() says so
            self._place()
        if self.subscription.listener is not None:
            self.subscription.listener.on_partitions_assigned(gained)

    def _revoke(self, going: Partitions) -> None:
        if self.subscription.listener is not None:
            self.subscription.listener.on_partitions_revoked(going)
        self._commit_positions(going)
        self._drop(going)

    def _lose(self, lost: Partitions) -> None:
        self._drop(lost)
        if self.subscription.listener is not None and lost:
            self.subscription.listener.on_partitions_lost(lost)

    # ------------------------------------------------------------------------------ readers

    @property
    def assigned(self) -> list[TopicPartition]:
        """The partitions that this consumer has to read."""
        return [*self.readers, *self._unplaced]

    def _read(self, wanted: Partitions) -> None:
        self._drop(frozenset(self.assigned) - wanted)
        self._unplaced |= wanted - frozenset(self.readers)

    def _drop(self, partitions: Partitions) -> None:
        self._unplaced -= partitions
        for tp in partitions:
            reader = self.readers.pop(tp, None)
            if reader is not None:
                reader.close()

    def _place(self) -> None:
        """Readers for what has none, at the committed offset or where the reset policy says.

        Raises NoOffsetForPartitionError, after all others have theirs.
        """
        missing: NoOffsetForPartitionError | None = None
        offsets = self.session.committed(self._unplaced) if self.session else {}
        for tp in sorted(self._unplaced):
            committed = offsets.get(tp)
            known = -1 if committed is None else committed.offset
            start = max(known, self.resume_at.pop(tp, -1))
            try:
                if start < 0:
                    start = self.positions.start(tp, self._options.auto_offset_reset)
                    self._tell_start(tp, start)
            except NoOffsetForPartitionError as error:
                missing = error
            else:
                self._place_at(tp, start)
        if missing is not None:
            raise missing

    def _tell_start(self, tp: TopicPartition, start: int) -> None:
        if self.session and start > self.positions.log(tp).log_start_offset:
            self.session.begin_at(tp, start)

    def _place_at(self, tp: TopicPartition, offset: int) -> None:
        self.readers[tp] = self.make_reader(tp, offset)
        self._unplaced.discard(tp)

    def make_reader(self, tp: TopicPartition, offset: int) -> PartitionReader:
        """A reader of one partition that begins at the offset."""
        log = self.positions.log(tp)
        make = PartitionReader if isinstance(log, Partition) else guest_reader()
        return make(
            self._lease,
            log,
            tp,
            offset,
            check_crcs=self._options.check_crcs,
            durable_only=self._options.read_until == "durable",
            key_deserializer=key_deserializer(self._options.key_deserializer),
            value_deserializer=value_deserializer(self._options.value_deserializer),
        )

    def reader(self, tp: TopicPartition) -> PartitionReader:
        """The reader of an assigned partition. Raises IllegalStateError."""
        if tp not in self.readers:
            self.coordinate()
        found = self.readers.get(tp)
        if found is None:
            raise self._not_assigned(tp)
        return found

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Go on at that offset. Raises IllegalStateError."""
        if tp not in self.readers and tp not in self._unplaced:
            with suppress(NoOffsetForPartitionError):
                self.coordinate()
        if tp in self.readers:
            self.readers[tp].seek(offset)
        elif tp in self._unplaced:
            self._place_at(tp, offset)
        else:
            raise self._not_assigned(tp)

    def _not_assigned(self, tp: TopicPartition) -> IllegalStateError:
        return IllegalStateError(
            f"{tp.topic}-{tp.partition} is not assigned to this consumer; assigned are"
            f" {sorted(self.assigned) or 'none'}"
        )

    def publish(self) -> None:
        """What was returned so far has been processed, from paused partitions as well."""
        for reader in self.readers.values():
            reader.publish()

    def active(self) -> list[PartitionReader]:
        """The readers that are not paused."""
        paused = self.subscription.paused
        return [reader for tp, reader in self.readers.items() if tp not in paused]

    def reset(self, reader: PartitionReader, error: OffsetOutOfRangeError) -> None:
        """Move a reader whose position cannot be read any more. Raises `error` for policy none."""
        if self._options.auto_offset_reset == "none":
            raise error
        tp = reader.topic_partition
        start = self.positions.start(tp, self._options.auto_offset_reset)
        logger.warning("%s-%d: %s; going on at %d", *tp, error, start)
        reader.seek(start)

    @property
    def is_pending(self) -> bool:
        """True while another member still holds a partition that is planned for this one."""
        return self.session is not None and self.session.membership.pending

    def due_ns(self) -> int:
        """When `coordinate` wants to be called again, on the monotonic clock."""
        now = time.monotonic()
        if self.session is not None and self.session.membership.patience.is_held_up:
            return int((now + HELD_UP_S) * 1e9)
        if self.is_pending:
            return int((now + PENDING_S) * 1e9)
        due = now + SLICE_S
        if self.session is not None and self._options.enable_auto_commit:
            due = min(due, self._commit_due)
        return int(due * 1e9)

    # ------------------------------------------------------------------------------ commits

    def positions_of(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """The next offset of each partition that is being read, for a commit."""
        mine = {tp: self.readers[tp] for tp in partitions if tp in self.readers}
        return {  # a seek may have gone beyond the end, where nothing is to be committed
            tp: OffsetAndMetadata(min(reader.offset, reader.log.log_end_offset))
            for tp, reader in mine.items()
        }

    def auto_commit(self) -> None:
        """Commit all positions, if the consumer commits by itself."""
        self._commit_due = time.monotonic() + self._options.auto_commit_interval_ms / 1e3
        if self.readers:
            self._commit_positions(frozenset(self.readers))

    def _commit_positions(self, partitions: Partitions) -> None:
        if self.session is None or not self._options.enable_auto_commit:
            return
        offsets: Mapping[TopicPartition, OffsetAndMetadata] = self.positions_of(partitions)
        try:
            self.session.commit_what_is_left(offsets)
        except CommitFailedError as error:
            logger.warning(
                "group %r: automatic commit refused, records since the last one come again: %s",
                self._options.group_id,
                error,
            )

    # ------------------------------------------------------------------------ end, and fork

    def close(self, *, autocommit: bool) -> None:
        """Commit, leave, let go. The client closes with the last record that is still held."""
        try:
            if not self._is_over() and not self.client.stale:
                if autocommit:
                    self.auto_commit()
                if self.session is not None:
                    self.session.close()
        finally:
            self._drop(frozenset(self.readers))
            del self._lease

    def abandon(self) -> None:
        """In a forked child, or after a move: forget what there is; touch nothing shared."""
        self.readers = {}
        self._unplaced = set()
        self._lease.pass_on()
        if self.session is not None:
            self.session.close(leave=False)
