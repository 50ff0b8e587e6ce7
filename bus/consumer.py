"""The consumer: reads topics in place, alone or as a member of a group.

    poll ─► look after the group (rebalance, automatic commit) ─► take records ─► or wait, and again

Iteration is the same without the detour: `__next__` is in native/cursor.pxi and comes here only
when its cursor is empty, its turn is over, or the group has changed.

Guarantees: records of a partition come in order, each once to a group in which nobody dies; after
a death, from the last commit on. An automatic commit covers only records that the program has
finished with: those returned before the present poll or iteration step.
"""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal, Never, Self

from bus.address import Address
from bus.client import Client
from bus.config import check_options
from bus.consumer_life import Records
from bus.consumer_positions import PositionedConsumer
from bus.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from bus.fetcher import Fetcher
from bus.listener import ConsumerRebalanceListener
from bus.liveness import ROLE_CONSUMER
from bus.log import PartitionReader
from bus.options import ConsumerOptions, OffsetReset, ReadUntil, Strategy
from bus.serializers.choice import DeserializerOption
from bus.structs import TopicPartition


class Consumer(PositionedConsumer):
    """Reads topics.

    topics: names to subscribe to; more in subscribe() and assign().
    bootstrap_servers: directory of the bus; None is $BUS_DIR or the user's own bus.
    group_id: consumers with the same one share the partitions, and commit offsets; None: alone.
    key_deserializer, value_deserializer: functions of bytes, or formats (see bus.serializers),
        called when key or value is asked for.
    auto_offset_reset: where to begin without a committed offset: "latest", "earliest", "none".
    enable_auto_commit, auto_commit_interval_ms: commit processed records now and then.
    max_poll_records: most records of one poll.
    max_poll_interval_ms: accepted for Kafka's sake: a member leaves when it is dead, not when slow.
    partition_assignment_strategy: "sticky", "range" or "roundrobin".
    read_until: "written" (the log end) or "durable" (the high watermark).
    check_crcs: verify every record that is read.
    consumer_timeout_ms: iteration ends when nothing came for so long.
    spin_us: busy waiting before a sleep, in microseconds; None chooses.
    autostart: start a broker if none runs there.

    Raises BusConfigurationError or TypeError for a bad option, BrokerNotRunningError,
    UnsafeDirectoryError, NamespaceError, UnknownTopicOrPartitionError. To be used by one thread at
    a time; close() may come from any.
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: Address = None,
        group_id: str | None = None,
        group_instance_id: str | None = None,
        client_id: str | None = None,
        key_deserializer: DeserializerOption = None,
        value_deserializer: DeserializerOption = None,
        auto_offset_reset: OffsetReset = "latest",
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: int = 5_000,
        max_poll_records: int = 500,
        max_poll_interval_ms: int = 300_000,
        partition_assignment_strategy: Strategy = "sticky",
        read_until: ReadUntil = "written",
        isolation_level: Literal["read_uncommitted", "read_committed"] = "read_uncommitted",
        check_crcs: bool = True,
        consumer_timeout_ms: float = math.inf,
        spin_us: float | None = None,
        autostart: bool = True,
        **unknown: Never,
    ) -> None:
        given = dict(locals())
        check_options(ConsumerOptions.names(), unknown, what="consumer option")
        self._options = ConsumerOptions.from_arguments(given)
        super().__init__()
        client = Client.connect(
            bootstrap_servers,
            role=ROLE_CONSUMER,
            client_id=client_id or group_id or "consumer",
            autostart=autostart,
        )
        try:
            self._begin(Fetcher(client, self._options))
            if topics:
                self.subscribe(topics)
        except BaseException:
            client.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as its address, options and subscribed topics: the copy joins by itself."""
        topics = tuple(sorted(self._fetcher.subscription.topics))
        return _again, (str(self._fetcher.client.directory.path), topics, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._fetcher.client.directory.path
        return f"<Consumer {self._options.client_id or self._options.group_id!r} at {state}>"

    # ------------------------------------------------------------------- what is to be read

    def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | re.Pattern[str] | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Read these topics, or all whose names match the pattern from their beginning on.

        Replaces what was subscribed before. Topics that do not exist are created, if the broker
        does that. The listener is told which partitions come and go. Raises IllegalStateError
        after assign(), UnknownTopicOrPartitionError.
        """
        with self._in_use() as fetcher:
            fetcher.subscription.subscribe(topics, pattern, listener)
            fetcher.follow_subscription()
            self._look_again()
            if listener is None:  # its calls are promised to come from poll()
                with suppress(NoOffsetForPartitionError):  # there is time for a seek until poll()
                    self._coordinate()

    def unsubscribe(self) -> None:
        """Read nothing any more: commit, leave the group, forget assigned partitions."""
        with self._in_use() as fetcher:
            fetcher.subscription.clear()
            fetcher.follow_subscription()
            self._look_again()

    def subscription(self) -> set[str] | None:
        """The subscribed topics; those that a pattern matches now; None without a subscription."""
        with self._in_use() as fetcher:
            if not fetcher.subscription.is_automatic:
                return None
            return set(fetcher.subscription.matching([t.name for t in fetcher.client.topics()]))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions, outside any group. Raises IllegalStateError after
        subscribe(), UnknownTopicOrPartitionError."""
        with self._in_use() as fetcher:
            fetcher.subscription.assign(partitions)
            fetcher.follow_subscription()
            self._look_again()

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are being read."""
        with self._in_use() as fetcher:
            return set(fetcher.assigned)

    # ---------------------------------------------------------------------------- reading

    def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> Records:
        """Records that are there, or that come within timeout_ms; at most max_records.

        Fair between partitions. The first call returns records as well. Raises CorruptRecordError,
        OffsetOutOfRangeError (auto_offset_reset="none"), NoOffsetForPartitionError,
        BrokerNotRunningError when the bus was stopped.
        """
        return self._poll(timeout_ms, max_records)

    def _take_up(self, fetcher: Fetcher) -> None:
        fetcher.publish()
        if fetcher.session is not None:
            self._watch(*fetcher.session.watched_word())
        self._read_from(
            fetcher.active(), fetcher.catalog_seen, fetcher.due_ns(), fetcher.is_pending
        )

    def _out_of_range(self, cursor: PartitionReader, error: OffsetOutOfRangeError) -> None:
        self._fetcher.reset(cursor, error)

    def pause(self, *partitions: TopicPartition) -> None:
        """Return no records of these partitions until resume(); they stay assigned."""
        with self._in_use() as fetcher:
            fetcher.subscription.paused |= {fetcher.reader(tp).topic_partition for tp in partitions}
            self._look_again()

    def resume(self, *partitions: TopicPartition) -> None:
        """Return records of these partitions again."""
        with self._in_use() as fetcher:
            fetcher.subscription.paused -= set(partitions)
            self._look_again()

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        with self._in_use() as fetcher:
            return set(fetcher.subscription.paused)

    # ------------------------------------------------------------------------------- the rest

    def topics(self) -> set[str]:
        """The names of all topics of the bus."""
        with self._in_use() as fetcher:
            return {topic.name for topic in fetcher.client.topics()}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """The partition numbers of a topic, or None if there is no such topic."""
        with self._in_use() as fetcher:
            for known in fetcher.client.topics():
                if known.name == topic:
                    return set(range(known.partitions))
            return None

    def metrics(self) -> dict[str, dict[str, float]]:
        """Figures of the assigned partitions, in kafka-python's shape."""
        with self._in_use() as fetcher:
            readers = list(fetcher.readers.values())
            lags = [max(reader.log.log_end_offset - reader.offset, 0) for reader in readers]
            return {
                "consumer-fetch-manager-metrics": {
                    "assigned-partitions": len(readers),
                    "records-lag-max": max(lags, default=0),
                    "records-lag": sum(lags),
                    "records-skipped": sum(reader.gaps for reader in readers),
                }
            }

    def bootstrap_connected(self) -> bool:
        """True while the consumer is attached to a bus."""
        return not self._closed and not self._fetcher.client.stopping


def _again(address: str, topics: tuple[str, ...], options: ConsumerOptions) -> Consumer:
    """Unpickles a consumer: a new one, with the same options and subscription."""
    return Consumer(*topics, bootstrap_servers=address, **options.as_arguments())
