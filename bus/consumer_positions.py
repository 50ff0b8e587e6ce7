"""A consumer's positions: where it reads, what it has committed, what is still to come.

The half of the consumer that does not read.
"""

from collections.abc import Callable, Collection, Mapping

from bus.client import Client
from bus.consumer_life import ConsumerLife
from bus.errors import BusError, InvalidGroupIdError
from bus.fetcher import Fetcher
from bus.log import PartitionReader
from bus.options import ConsumerOptions
from bus.session import GroupSession
from bus.structs import (
    ConsumerGroupMetadata,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    TopicPartition,
)

CommitCallback = Callable[[Mapping[TopicPartition, OffsetAndMetadata], BusError | None], object]


class PositionedConsumer(ConsumerLife[Fetcher]):
    """What Consumer is made of, without reading."""

    _options: ConsumerOptions
    _autocommit_at_close = True

    def _make_fetcher(self, client: Client, resume_at: dict[TopicPartition, int]) -> Fetcher:
        fetcher = Fetcher(client, self._options)
        fetcher.resume_at = resume_at
        return fetcher

    def _end(self) -> None:
        self._fetcher.close(autocommit=self._autocommit_at_close)

    def close(self, autocommit: bool = True, timeout_ms: float | None = None) -> None:
        """Commit what was processed, leave the group, leave the bus.

        Idempotent, from any thread and from a signal handler: a poll that is waiting returns {},
        an iteration ends. Records that are still held stay readable.
        """
        if not self._closed:
            self._autocommit_at_close = autocommit
            self._close()

    # --------------------------------------------------------------------------- positions

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at that offset. Whether it exists shows at the next poll."""
        if offset < 0:
            raise ValueError(f"an offset is not negative, as {offset} is")
        with self._in_use() as fetcher:
            fetcher.seek(partition, offset)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the log start of these partitions, or of all assigned ones."""
        with self._in_use() as fetcher:
            for tp in partitions or fetcher.assigned:
                fetcher.seek(tp, fetcher.positions.log(tp).log_start_offset)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on at the log end of these partitions, or of all assigned ones."""
        with self._in_use() as fetcher:
            for tp in partitions or fetcher.assigned:
                fetcher.seek(tp, fetcher.positions.log(tp).log_end_offset)

    def position(self, partition: TopicPartition, timeout_ms: float | None = None) -> int:
        """The offset of the next record of an assigned partition."""
        with self._in_use() as fetcher:
            return fetcher.reader(partition).offset

    def highwater(self, partition: TopicPartition) -> int:
        """The log end offset of a partition: the next record will get it."""
        with self._in_use() as fetcher:
            return fetcher.positions.log(partition).log_end_offset

    def lag(self) -> dict[TopicPartition, int]:
        """Offsets between the position and the log end, for each assigned partition."""
        with self._in_use() as fetcher:
            return {
                tp: max(reader.log.log_end_offset - reader.offset, 0)
                for tp, reader in fetcher.readers.items()
            }

    def beginning_offsets(
        self, partitions: Collection[TopicPartition], timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """The smallest offset that can be read, for each partition."""
        with self._in_use() as fetcher:
            return fetcher.positions.beginning(partitions)

    def end_offsets(
        self, partitions: Collection[TopicPartition], timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """The log end offset of each partition, or its high watermark with read_until="durable"."""
        with self._in_use() as fetcher:
            return fetcher.positions.end(partitions, durable=self._options.read_until == "durable")

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: float | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time (ms since the epoch); None if there is none."""
        with self._in_use() as fetcher:
            readers: dict[TopicPartition, PartitionReader] = {}
            try:
                for tp in timestamps:
                    start = fetcher.positions.log(tp).log_start_offset
                    readers[tp] = fetcher.make_reader(tp, start)
                return fetcher.positions.for_times(readers, timestamps)
            finally:
                for reader in readers.values():
                    reader.close()

    # ----------------------------------------------------------------------------- commits

    def _session(self, fetcher: Fetcher) -> GroupSession:
        if fetcher.session is None:
            raise InvalidGroupIdError("no group to commit to; give the consumer a group_id")
        return fetcher.session

    def commit(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata] | None = None,
        timeout_ms: float | None = None,
    ) -> None:
        """Store offsets for the group: the given ones, or the position of every partition.

        They survive every process at once, and power loss after the broker's next sync. Raises
        CommitFailedError if a partition now belongs to another member, OffsetOutOfRangeError for
        an offset beyond the log end, InvalidGroupIdError.
        """
        with self._in_use() as fetcher:
            session = self._session(fetcher)
            if offsets is None:
                offsets = fetcher.positions_of(fetcher.readers)
            for tp, value in offsets.items():
                fetcher.positions.check(tp, value.offset)
            if offsets:
                session.commit(offsets)

    def commit_async(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata] | None = None,
        callback: CommitCallback | None = None,
    ) -> None:
        """The same, with the outcome told to callback(offsets, None or exception).

        A commit is a few stores to shared memory, so it is done when this returns.
        """
        with self._in_use() as fetcher:
            chosen = fetcher.positions_of(fetcher.readers) if offsets is None else offsets
        try:
            self.commit(chosen)
        except BusError as error:
            if callback is None:
                raise
            callback(chosen, error)
        else:
            if callback is not None:
                callback(chosen, None)

    def committed(
        self, partition: TopicPartition, metadata: bool = False, timeout_ms: float | None = None
    ) -> int | OffsetAndMetadata | None:
        """The offset that the group has committed, or None; with metadata, OffsetAndMetadata."""
        with self._in_use() as fetcher:
            found = self._session(fetcher).committed([partition])[partition]
            return found if metadata or found is None else found.offset

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Group, generation and member id of this consumer. Raises InvalidGroupIdError."""
        with self._in_use() as fetcher:
            return self._session(fetcher).metadata()
