"""A producer on another user's bus: it sends records to the gateway, which appends them.

Guarantees: as `bus.Producer`, with one thing less: a record whose answer never came, because the
gateway died, may have been stored. Its future fails with BrokerNotRunningError and says so.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Self

from bus.address import Address
from bus.config import MIB, check_options
from bus.errors import (
    BrokerNotRunningError,
    BusError,
    BusTimeoutError,
    ClosedError,
    MessageSizeTooLargeError,
    SerializationError,
    UnknownTopicOrPartitionError,
    error_named,
)
from bus.guest import GuestClient
from bus.headers import Header, encode_headers
from bus.liveness import ROLE_PRODUCER
from bus.native.core import Parts
from bus.options import ProducerOptions
from bus.partitioner import partitioner_of
from bus.producer import Producer
from bus.serializers.choice import key_serializer, value_serializer
from bus.structs import RecordMetadata
from bus.wire import (
    ERROR,
    RECORD,
    STORED_BODY,
    GuestRecord,
    HangUpError,
    Message,
    pack,
    receive_reply,
    send,
)

#: what may be on its way without an answer
PENDING_MAX: Final = 4096
PENDING_BYTES_MAX: Final = 32 * MIB


class GuestFuture:
    """The fate of a record that a guest sent. `get` waits for the gateway's answer."""

    def __init__(self, record: GuestRecord, size: int) -> None:
        self._record = record
        self.size = size
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._metadata: RecordMetadata | None = None
        self._error: BusError | None = None
        self._calls: list[Callable[[], object]] = []

    def settle(self, metadata: RecordMetadata | None, error: BusError | None) -> None:
        """The answer has come. Callbacks run in the thread that reads answers."""
        with self._lock:
            self._metadata, self._error = metadata, error
            self._over.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    @property
    def partition(self) -> int:
        """Where the record is, -1 as long as that is not known."""
        return -1 if self._metadata is None else self._metadata.partition

    @property
    def offset(self) -> int:
        """The record's offset, -1 as long as that is not known."""
        return -1 if self._metadata is None else self._metadata.offset

    @property
    def is_done(self) -> bool:
        """True as soon as there is an answer."""
        return self._over.is_set()

    def succeeded(self) -> bool:
        """True if the record is as safe as `acks` asked for."""
        return self._metadata is not None

    def failed(self) -> bool:
        """True if it is not, and will not be."""
        return self._error is not None

    @property
    def exception(self) -> BusError | None:
        """Why it failed, or None."""
        return self._error

    @property
    def value(self) -> RecordMetadata | None:
        """The RecordMetadata once the future has succeeded, else None."""
        return self._metadata

    def get(self, timeout: float | None = None) -> RecordMetadata:
        """Wait at most `timeout` seconds. Raises BusTimeoutError, or why the record failed."""
        if not self._over.wait(timeout):
            raise BusTimeoutError(f"the gateway did not answer within {timeout} s")
        if self._metadata is None:
            raise self._error or BusError("the record was not stored")
        return self._metadata

    def _when_over(self, call: Callable[[], object]) -> Self:
        with self._lock:
            if not self._over.is_set():
                self._calls.append(call)
                return self
        call()
        return self

    def add_callback(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> Self:
        """Call function(*args, metadata, **kwargs) once the future has succeeded."""
        return self._when_over(lambda: self._metadata and function(*args, self._metadata, **kwargs))

    def add_errback(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> Self:
        """Call function(*args, exception, **kwargs) if the future fails."""
        return self._when_over(lambda: self._error and function(*args, self._error, **kwargs))

    def add_both(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> Self:
        """Call function with the metadata or with the exception."""
        return self._when_over(lambda: function(*args, self._metadata or self._error, **kwargs))

    def stored(self, body: bytes) -> None:
        """The gateway has appended the record."""
        partition, offset, timestamp = STORED_BODY.unpack(body)
        record = self._record
        key_size = -1 if record.key is None else len(record.key)
        value_size = -1 if record.value is None else len(record.value)
        self.settle(
            RecordMetadata(record.topic, partition, offset, timestamp, key_size, value_size), None
        )


class GuestProducer(Producer):
    """What `bus.Producer` makes for the bus of another user who allows it (`acl.write`)."""

    def __init__(self, bootstrap_servers: Address = None, **options: Any) -> None:
        """The options of `Producer`; `autostart` has no effect: only the owner starts a bus."""
        check_options(ProducerOptions.names(), options, what="producer option")
        self._options = ProducerOptions(**options)
        self._partition_for = partitioner_of(self._options.partitioner)
        self._key_serializer = key_serializer(self._options.key_serializer)
        self._value_serializer = value_serializer(self._options.value_serializer)
        self._address = bootstrap_servers
        self._records = self._bytes = 0
        self._is_closed = False
        self._connect()

    def _connect(self) -> None:
        self._guest = GuestClient(
            self._address, role=ROLE_PRODUCER, client_id=self._options.client_id or "producer"
        )
        self._client = self._guest
        self._next_id = 1 << 16
        self._bytes_pending = 0
        self._pending: OrderedDict[int, GuestFuture] = OrderedDict()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        #: topic lookups go by a connection of their own, for this one's answers are read elsewhere
        self._lookup = GuestClient(
            self._address, role=ROLE_PRODUCER, client_id=self._options.client_id or "producer"
        )
        self._reader = threading.Thread(target=self._read, args=(self._guest,), daemon=True)
        self._reader.start()

    @property
    def _closed(self) -> bool:
        return self._is_closed

    def _revive(self) -> None:
        if self._is_closed:
            raise ClosedError("the producer is closed; make another one")
        if self._guest.stale or not self._reader.is_alive():
            self._connect()

    # ---------------------------------------------------------------------------- sending

    def send(  # type: ignore[override]  # a future of another class, with the same face
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        headers: Iterable[Header] | None = None,
        partition: int | None = None,
        timestamp_ms: float | None = None,
    ) -> GuestFuture:
        """As `Producer.send`. Raises TopicAuthorizationFailedError too."""
        self._revive()
        found = self._lookup.topic(topic, what="write")
        key = _bytes("key", _serialized(key, self._key_serializer))
        value = _serialized(value, self._value_serializer)
        in_parts = isinstance(value, Parts)
        value = value.join() if in_parts else _bytes("value", value)
        most = found.config.max_message_bytes
        if len(key or b"") + len(value or b"") > most:
            raise MessageSizeTooLargeError(
                f"the record takes more than max.message.bytes of topic {topic!r}: {most}"
            )
        if partition is None and key is not None:
            partition = self._partition_for(key, found.partitions)
        if partition is not None and not 0 <= partition < found.partitions:
            raise UnknownTopicOrPartitionError(
                f"topic {topic!r} has partitions 0..{found.partitions - 1}, not {partition}"
            )
        record = GuestRecord(
            topic=topic,
            value=value,
            key=key,
            headers=encode_headers(headers) if headers else b"",
            partition=-1 if partition is None else partition,
            timestamp_ms=-1 if timestamp_ms is None else int(timestamp_ms),
            acks=self._options.acks,
            in_parts=in_parts,
        )
        return self._send(record)

    def _send(self, record: GuestRecord) -> GuestFuture:
        body = record.packed()
        future = GuestFuture(record, len(body))
        with self._sending:
            self._wait_for_room(len(body))
            with self._changed:
                self._next_id += 1
                number = self._next_id
                self._pending[number] = future
                self._bytes_pending += len(body)
            try:
                send(self._guest.connection, pack(RECORD, number, body))
            except HangUpError as error:
                self._fail_all(str(error))
        self._records += 1
        self._bytes += len(record.value or b"")
        return future

    def _wait_for_room(self, size: int) -> None:
        limit = time.monotonic() + min(self._options.max_block_ms / 1e3, 3e7)
        with self._changed:
            while self._pending and (
                len(self._pending) >= PENDING_MAX or self._bytes_pending + size > PENDING_BYTES_MAX
            ):
                if not self._changed.wait(limit - time.monotonic()):
                    raise BusTimeoutError(
                        f"{len(self._pending)} records are on their way to the gateway without an"
                        f" answer after {self._options.max_block_ms} ms"
                    )

    def send_many(  # type: ignore[override]
        self,
        topic: str,
        values: Iterable[Any],
        *,
        keys: Sequence[Any] | None = None,
        partition: int | None = None,
    ) -> GuestFuture:
        """As `Producer.send_many`: the future of the last record."""
        listed = list(values)
        if not listed:
            raise ValueError("send_many needs at least one value")
        if keys is not None and len(keys) != len(listed):
            raise ValueError(f"{len(listed)} values but {len(keys)} keys")
        for number, value in enumerate(listed):
            key = None if keys is None else keys[number]
            future = self.send(topic, value, key=key, partition=partition)
        return future

    # ---------------------------------------------------------------------------- answers

    def _read(self, guest: GuestClient) -> None:
        """In a thread: settle futures as their answers come, until the connection ends."""
        guest.connection.settimeout(None)
        try:
            while True:
                self._settle(receive_reply(guest.connection))
        except HangUpError as error:
            self._fail_all(str(error))

    def _settle(self, reply: Message) -> None:
        with self._changed:
            future = self._pending.pop(reply.id, None)
            if future is not None:
                self._bytes_pending -= future.size
            self._changed.notify_all()
        if future is None:
            return
        if reply.kind == ERROR:
            content = reply.json()
            future.settle(None, error_named(str(content["error"]), str(content["message"])))
        else:
            future.stored(reply.body)

    def _fail_all(self, why: str) -> None:
        with self._changed:
            lost, self._pending = list(self._pending.values()), OrderedDict()
            self._bytes_pending = 0
            self._changed.notify_all()
        for future in lost:
            error = BrokerNotRunningError(
                f"the gateway is gone ({why}) before it answered: the record may be stored or not"
            )
            future.settle(None, error)

    # --------------------------------------------------------------------------- the rest

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all records sent so far are answered. Raises BusTimeoutError."""
        limit = math.inf if timeout is None else time.monotonic() + timeout
        with self._changed:
            waiting = list(self._pending.values())
        for future in waiting:
            left = None if timeout is None else max(limit - time.monotonic(), 0)
            if not future._over.wait(left):
                raise BusTimeoutError(f"the gateway did not answer within {timeout} s")

    def partitions_for(self, topic: str) -> set[int]:
        """The partition numbers of a topic."""
        return set(range(self._lookup.topic(topic, what="write").partitions))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Counters since the producer was made."""
        return {
            "producer-metrics": {
                "record-send-total": self._records,
                "byte-total": self._bytes,
                "records-not-durable-max": len(self._pending),
            }
        }

    def close(self, timeout: float | None = None) -> None:
        """Flush, and hang up. Idempotent. Raises BusTimeoutError; it is closed all the same."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if not self._guest.stale:
                self.flush(timeout)
        finally:
            self._guest.hang_up()
            self._guest.close()
            self._lookup.close()


def _serialized(value: Any, serializer: Callable[[Any], Any] | None) -> Any:
    return value if value is None or serializer is None else serializer(value)


def _bytes(what: str, value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return bytes(memoryview(value))
    except TypeError as error:
        raise SerializationError(
            f"the {what} must be bytes-like or None, not {type(value).__name__}; encode it or give"
            f" the producer a {what}_serializer"
        ) from error
