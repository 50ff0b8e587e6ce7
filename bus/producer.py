"""The producer: appends records to the log of a topic from its own process.

`send` itself, the hot path, is in native/producer.pxi; this module is what surrounds it: options,
topics, waiting for durability, callbacks, closing, forking, pickling.

Guarantees: a future that has succeeded means what `acks` says. Records of one producer to one
partition keep their order. May be used from several threads.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, Never, Self

from bus.address import Address, is_shared_by_another
from bus.backpressure import Backpressure
from bus.callbacks import Callback, CallbackThread
from bus.client import Client
from bus.config import check_options
from bus.errors import (
    BrokerNotRunningError,
    BusError,
    BusTimeoutError,
    ClosedError,
    CorruptSegmentError,
    ReplicaFailedError,
    UnknownTopicOrPartitionError,
)
from bus.headers import Header, encode_headers
from bus.holder import describe_replica
from bus.liveness import ROLE_PRODUCER
from bus.lost import loss_at, new_loss, report_of
from bus.moves import PAUSE_S, follow_move, follow_stop
from bus.native.core import LAYOUT, Partition, ProducerCore, RecordFuture, Route
from bus.options import Acks, ProducerOptions
from bus.partitioner import KafkaPartitioner, partitioner_of
from bus.serializers.choice import SerializerOption, key_serializer, value_serializer

_REPLICA_FAILED: Final = LAYOUT["BUS_REPLICA_FAILED"]
_REPLICATED: Final = LAYOUT["BUS_FLAG_REPLICATED"]
_DELETED: Final = LAYOUT["BUS_FLAG_DELETED"]

#: longer than anybody waits: a year
FOREVER_MS: Final = 365 * 86_400_000.0
#: a wait for durability is cut into slices: in between, the replica's and the bus's health is seen
_SLICE_MS: Final = 200.0
#: so long a send waits for a bus that leaves a spoiled hot directory, in seconds
_MOVE_S: Final = 10.0
#: the broker looks at the shared pages every second, and has noticed by then
_NOTICE_S: Final = 2.5
#: the broker syncs the files of a new topic: it has at least so long, whatever max_block_ms is
_TOPIC_S_MIN: Final = 1.0


class Producer(ProducerCore):
    """Sends records to topics.

    bootstrap_servers: directory of the bus; None is $BUS_DIR or the user's own bus.
    client_id: name of this producer for people, at most 95 bytes.
    acks: 0 and 1: a future succeeds when the record is in the log, which survives the death of
        every process. "all": when it is on disk, verified and synced, which survives power loss.
    key_serializer, value_serializer: functions to bytes, or formats: see bus.serializers.
    partitioner: "mmh3", "murmur2" (Kafka's own) or a function (key, all, available) -> partition.
    batch_size: bytes of records without key that go to one partition before the next one.
    max_block_ms: how long `send` may wait for room in the log and for its lock, `send_many` for
        each 128 records; and, but at least 1 s, for the broker to make a topic.
    linger_ms: accepted for Kafka's sake; an append never waits in a buffer.
    autostart: start a broker if none runs there.

    Raises BusConfigurationError or TypeError for a bad option, BrokerNotRunningError,
    UnsafeDirectoryError, NamespaceError.
    """

    def __new__(cls, bootstrap_servers: Address = None, **_: Any) -> Self:
        """A GuestProducer for the bus of another user, who shares it."""
        if cls is Producer and is_shared_by_another(bootstrap_servers):
            from bus.guest_producer import GuestProducer  # here, because only guests need it

            return super().__new__(GuestProducer)  # type: ignore[return-value]
        return super().__new__(cls)

    def __init__(
        self,
        bootstrap_servers: Address = None,
        *,
        client_id: str | None = None,
        acks: Acks = "all",
        key_serializer: SerializerOption = None,
        value_serializer: SerializerOption = None,
        partitioner: Literal["mmh3", "murmur2"] | KafkaPartitioner = "mmh3",
        compression_type: str | None = None,
        batch_size: int = 16_384,
        linger_ms: int = 0,
        max_block_ms: int = 60_000,
        enable_idempotence: bool = True,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        autostart: bool = True,
        **unknown: Never,
    ) -> None:
        given = dict(locals())
        check_options(ProducerOptions.names(), unknown, what="producer option")
        self._address = bootstrap_servers
        self._options = ProducerOptions.from_arguments(given)
        self._partitions: dict[tuple[int, int], Partition] = {}
        self._callbacks: CallbackThread | None = None
        self._client = Client.connect(
            bootstrap_servers,
            role=ROLE_PRODUCER,
            client_id=client_id or "producer",
            autostart=autostart,
        )
        self._begin()

    def _begin(self) -> None:
        options = self._options
        self._partitions.clear()
        self._attachments = self._client.attachments
        self._start(
            self._client.control,
            wait_durable=options.acks == "all",
            max_block_ns=int(min(options.max_block_ms, FOREVER_MS) * 1e6),
            sticky_bytes=options.batch_size,
            key_serializer=key_serializer(options.key_serializer),
            value_serializer=value_serializer(options.value_serializer),
            partitioner=partitioner_of(options.partitioner),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as its address and options: the copy attaches by itself."""
        return _again, (str(self._client.directory.path), self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._client.directory.path
        return f"<Producer {self._client.client_id!r} at {state}>"

    # ------------------------------------------------------ called by the hot path, when rare

    def _revive(self) -> None:
        """The producer is closed, or this is a forked child."""
        if self._closed:
            raise ClosedError("the producer is closed; make another one")
        self._client.ensure()
        self._callbacks = None  # threads do not survive a fork
        self._begin()

    def _route(self, topic: str) -> Route:
        if not isinstance(topic, str):
            raise TypeError(f"a topic is a str, not {type(topic).__name__}")
        if self._client.moving:
            follow_move(self._client, self._patience_s)
        elif self._client.stopping:
            follow_stop(self._client, self._patience_s, autostart=self._options.autostart)
        if self._client.attachments != self._attachments:
            self._begin()
        timeout_s = max(min(self._options.max_block_ms, FOREVER_MS) / 1e3, _TOPIC_S_MIN)
        found = self._client.topic(topic, create=True, timeout_s=timeout_s)
        backpressure = Backpressure(self._client, topic)
        logs: list[Partition] = []
        for number in range(found.partitions):
            partition = backpressure.attach(self._client.partition(found, number))
            new_loss(partition)  # what was lost before is not this producer's
            self._partitions[found.id, number] = partition
            logs.append(partition)
        return Route(topic, logs, os.urandom(1)[0])

    @property
    def _patience_s(self) -> float:
        return min(self._options.max_block_ms, FOREVER_MS) / 1e3

    def _follow_move(self, error: BusError) -> bool:
        """True if the record is to be sent again, because the bus left what `error` speaks of."""
        patience_s = min(self._patience_s, _MOVE_S)
        deadline = time.monotonic() + min(patience_s, _NOTICE_S)
        while not self._client.moving and self._client.attachments == self._attachments:
            if not isinstance(error, CorruptSegmentError) or time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE_S)
        follow_move(self._client, patience_s)
        return True

    def _encode_headers(self, headers: Iterable[Header]) -> bytes:
        return encode_headers(headers)

    def _send_keyed(
        self, topic: str, values: list[Any], keys: list[Any], partition: int | None
    ) -> RecordFuture:
        if len(keys) != len(values):
            raise ValueError(f"{len(values)} values but {len(keys)} keys")
        if not values:
            raise ValueError("send_many needs at least one value")
        serializer = key_serializer(self._options.key_serializer)
        if serializer is not None:
            keys = [None if key is None else serializer(key) for key in keys]
        groups: dict[int, tuple[list[Any], list[Any]]] = {}
        last = 0
        for value, key in zip(values, keys, strict=True):
            last = self._partition_of(topic, key, partition)
            group = groups.setdefault(last, ([], []))
            group[0].append(value)
            group[1].append(key)
        futures = {
            number: self._send_group(topic, number, *group) for number, group in groups.items()
        }
        return futures[last]

    # ------------------------------------------------------------------------------ durability

    def _wait_durable(self, log: Partition, offset: int, timeout: float | None) -> None:
        """Wait until the record is on disk. Raises BusTimeoutError, ReplicaFailedError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        log = self._own(log)
        while True:
            left_ms = _SLICE_MS
            if deadline is not None:
                left_ms = min(left_ms, (deadline - time.monotonic()) * 1e3)
            if self._sleep_until_durable(log, offset, max(left_ms, 0)):
                return
            failure = self._failure(log)
            if failure is not None:
                raise failure
            if left_ms <= 0:
                raise BusTimeoutError(
                    f"offset {offset} is not durable after {timeout} s: {describe_replica(log)}"
                )
            self._wake_broker(log)

    def _sleep_until_durable(self, log: Partition, offset: int, timeout_ms: float) -> bool:
        try:
            if log.wait_durable(offset, timeout_ms):
                return True
        except BrokerNotRunningError:
            if not self._closed:
                raise
        if self._closed:
            raise ClosedError(
                f"the producer was closed before offset {offset} was durable; it stays in the log,"
                " and its replica goes on"
            )
        return False

    def _own(self, log: Partition) -> Partition:
        """This process's own view of a partition: a future may come from before a fork."""
        if not self._client.stale:
            return log
        self._revive()
        for topic in self._client.topics():
            if topic.id == log.topic_id:
                return self._client.partition(topic, log.partition)
        raise UnknownTopicOrPartitionError("the topic was deleted")

    def _wake_broker(self, log: Partition) -> None:
        """If the broker is gone, a new one is started: it looks after the replica."""
        try:
            self._client.send("tend", topic=log.topic_id, partition=log.partition, need=0)
        except BrokerNotRunningError:
            if self._options.autostart:
                raise

    def _failure(self, log: Partition, offset: int = -1) -> BusError | None:
        """Why a record of this partition cannot become durable any more, or None."""
        if (loss := loss_at(log, offset)) is not None:
            return loss
        if log.replica_state == _REPLICA_FAILED:
            return ReplicaFailedError(
                f"the replica of partition {log.partition} of topic id {log.topic_id} stopped:"
                f" {report_of(self._client, log)}; see 'bus status' and 'bus check'"
            )
        if log.flags & _DELETED:
            if self._closed or self._client.stopping:
                return BrokerNotRunningError("the bus was stopped before the record was durable")
            return UnknownTopicOrPartitionError("the topic was deleted")
        return None

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent so far is as safe as `acks` says, at most `timeout` seconds.

        Raises BusTimeoutError, ReplicaFailedError, ClosedError; once each, RecordsLostError (they
        were damaged before they were durable) and UnknownTopicOrPartitionError (the topic was
        deleted meanwhile); all other partitions are done then.
        """
        if self._closed or self._client.stale:
            self._revive()
        if self._options.acks != "all":
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        failure: BusError | None = None
        for key, log in list(self._partitions.items()):
            failure = new_loss(log) or failure
            if log.high_watermark >= log.sent_end or not log.flags & _REPLICATED:
                continue
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            try:
                self._wait_durable(log, log.sent_end - 1, left)
            except UnknownTopicOrPartitionError as error:
                self._partitions.pop(key, None)
                failure = error
            except BusError as error:
                failure = error
            failure = new_loss(log) or failure
        if failure is not None:
            raise failure

    def _when_done(
        self,
        future: RecordFuture,
        on_success: Callable[..., object] | None,
        on_failure: Callable[..., object] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        if self._client.stale:
            self._revive()
        callback = Callback(future, on_success, on_failure, args, kwargs)
        if future.is_done:
            callback.run(None)
            return
        if self._callbacks is None:
            self._callbacks = CallbackThread()
        self._callbacks.add(callback)

    # ------------------------------------------------------------------------------- the rest

    def partitions_for(self, topic: str) -> set[int]:
        """The partition numbers of a topic, which is created if it does not exist."""
        if self._closed:
            raise ClosedError("the producer is closed; make another one")
        return set(range(self._client.topic(topic, create=True).partitions))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Counters since the producer was made, in kafka-python's shape."""
        logs = list(self._partitions.values())
        found = {
            "record-send-total": self.records_sent,
            "byte-total": self.bytes_sent,
            "partitions": len(logs),
            "records-not-durable-max": max(
                (log.log_end_offset - log.high_watermark for log in logs), default=0
            ),
            "replica-fsync-ms-max": max((log.replica_fsync_ns / 1e6 for log in logs), default=0.0),
        }
        return {"producer-metrics": found}

    def bootstrap_connected(self) -> bool:
        """True while the producer is attached to a bus."""
        return not self._closed and not self._client.stopping

    def close(self, timeout: float | None = None) -> None:
        """Flush, and leave the bus. Idempotent; callable from any thread.

        Raises BusTimeoutError when not everything is durable after `timeout` seconds; the
        producer is closed all the same, and what it sent stays in the log.
        """
        if self._closed:
            return
        try:
            if not self._client.stale and not self._client.stopping:
                self.flush(timeout)
        finally:
            self._stop()
            callbacks, self._callbacks = self._callbacks, None
            if callbacks is not None and not self._client.stale:
                callbacks.stop(timeout)
            self._partitions.clear()
            self._client.close()

    def _unsupported(self) -> Never:
        raise self._options.no_transactions()

    def init_transactions(self) -> None:
        """Not yet: raises UnsupportedVersionError."""
        self._unsupported()

    def begin_transaction(self) -> None:
        """Not yet: raises UnsupportedVersionError."""
        self._unsupported()

    def commit_transaction(self) -> None:
        """Not yet: raises UnsupportedVersionError."""
        self._unsupported()

    def abort_transaction(self) -> None:
        """Not yet: raises UnsupportedVersionError."""
        self._unsupported()


def _again(address: str, options: ProducerOptions) -> Producer:
    """Unpickles a producer: attaches a new one with the same options."""
    return Producer(address, **options.as_arguments())
