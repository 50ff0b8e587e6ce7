"""The share consumer: a queue over a topic, in which each record is worked on by one member.

Kafka's share groups (KIP-932), with one difference in kind: what a member has claimed is its own
until it says what becomes of it, or is proven dead. No timer gives a record to somebody else while
its first worker lives, so a long task never runs twice at a time.

    poll / iterate ─► claim offsets in the ack table ─► read the records in place ─► ack, nack, …
"""

import math
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, Never, Self

from bus.address import Address
from bus.client import Client
from bus.config import check_options
from bus.consumer_life import ConsumerLife, Records
from bus.errors import OffsetOutOfRangeError, UnsupportedVersionError
from bus.liveness import ROLE_CONSUMER
from bus.native.core import ConsumerRecord, ShareCore, not_held
from bus.options import ReadUntil, ShareOptions
from bus.serializers.choice import DeserializerOption
from bus.share_fetcher import ShareFetcher, ShareReader
from bus.share_modes import Mode
from bus.structs import TopicPartition

Cause = Literal["failure", "timeout", "crash", "oom"]

#: bus_ack_state in native/acks.h
_READY, _RUNNING, _DELAYED, _DEAD = 1, 3, 4, 6
#: bus_ack_count there
_CAUSES: Final = {"failure": 1, "timeout": 2, "crash": 3, "oom": 4}


class Attempts(NamedTuple):
    """What was counted of a record so far; each number stays at 255.

    deliveries: how often it was given to a member that began with it, this time included.
    failure, timeout, crash, oom: how those before ended.
    """

    deliveries: int
    failure: int
    timeout: int
    crash: int
    oom: int


class ShareConsumer(ConsumerLife[ShareFetcher], ShareCore):
    """A member of a share group: claims records one by one, and says what becomes of each.

    topics: names of the topics that it works on. Any number of members may work on one partition.
    bootstrap_servers: directory of the bus; None is $BUS_DIR or the user's own bus.
    group_id: members with the same one share the records.
    mode: "queue", in which records are worked on in no particular order, or "keyed": those with the
        same key one after the other, in the order of the log, also if they come again; a record is
        not given to anybody before the one before it is acknowledged or rejected. Records of
        different keys, and those without a key, do not wait for each other (but keys that share one
        of 4,096 lanes do). All members have the same mode; it is kept with the group.
    key_deserializer, value_deserializer: functions of bytes, or formats (see bus.serializers),
        called when key or value is asked for.
    auto_offset_reset: where a new group begins: "earliest" (unlike a Consumer: work that was sent
        before the first worker came is work, too) or "latest".
    max_poll_records: most records of one poll.
    read_until: "written" (the log end) or "durable" (the high watermark).
    check_crcs: verify every record that is read.
    consumer_timeout_ms: iteration ends when nothing came for so long.
    spin_us: busy waiting before a sleep, in microseconds; None chooses.
    autostart: start a broker if none runs there.

    Raises BusConfigurationError or TypeError for a bad option, InconsistentGroupProtocolError if
    Consumers are in the group or it has another mode, BrokerNotRunningError,
    UnknownTopicOrPartitionError. To be used by one thread at a time, but for ack() and the like,
    which any thread may call.
    """

    _options: ShareOptions

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: Address = None,
        group_id: str,
        mode: Mode = "queue",
        client_id: str | None = None,
        key_deserializer: DeserializerOption = None,
        value_deserializer: DeserializerOption = None,
        auto_offset_reset: Literal["earliest", "latest"] = "earliest",
        max_poll_records: int = 500,
        read_until: ReadUntil = "written",
        check_crcs: bool = True,
        consumer_timeout_ms: float = math.inf,
        spin_us: float | None = None,
        autostart: bool = True,
        **unknown: Never,
    ) -> None:
        given = dict(locals())
        check_options(ShareOptions.names(), unknown, what="share consumer option")
        self._options = ShareOptions.from_arguments(given)
        super().__init__()
        self._serve([])
        client = Client.connect(
            bootstrap_servers,
            role=ROLE_CONSUMER,
            client_id=client_id or group_id,
            autostart=autostart,
        )
        try:
            if client.is_guest:
                raise UnsupportedVersionError(
                    "programs of other users cannot be members of a share group; use a Consumer"
                )
            self._begin(self._make_fetcher(client, {}))
            if topics:
                self.subscribe(topics)
        except BaseException:
            client.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._fetcher.client.directory.path
        return f"<ShareConsumer {self._options.group_id!r} at {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as its address, options and topics: the copy joins by itself."""
        topics = tuple(sorted(self._fetcher.subscription.topics))
        return _again, (str(self._fetcher.client.directory.path), topics, self._options)

    # ------------------------------------------------------------------------ the life of it

    def _make_fetcher(self, client: Client, resume_at: dict[TopicPartition, int]) -> ShareFetcher:
        return ShareFetcher(client, self._options)

    def _end(self) -> None:
        self._fetcher.close()

    def close(self) -> None:
        """Give back what was not acknowledged, leave the group, leave the bus.

        Idempotent, from any thread and from a signal handler: a poll that is waiting returns {},
        an iteration ends. Records that are still held stay readable.
        """
        if not self._closed:
            self._close()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Work on these topics, and no others; they are created if the broker does that."""
        with self._in_use() as fetcher:
            fetcher.subscription.subscribe(topics, None, None)
            fetcher.follow_subscription()
            self._look_again()
            self._coordinate()

    def subscription(self) -> set[str]:
        """The topics that it works on."""
        with self._in_use() as fetcher:
            return set(fetcher.subscription.topics)

    # ------------------------------------------------------------------------------ claiming

    def poll(
        self, timeout_ms: float = 0, max_records: int | None = None, prefetch: bool = False
    ) -> Records:
        """Claims records that are there, or that come within timeout_ms; at most max_records.

        Returned ones come first, then new ones in the order of their offsets; in keyed mode never
        two of one key. Each is this
        member's alone until it says otherwise, or dies; then they come again at once, and a crash
        is counted. With `prefetch` they are only reserved until start(): a death before it counts
        nothing. Raises CorruptRecordError for a record that nobody can read: that one is given up.
        """
        with self._in_use():
            self._prefetch = prefetch
            return self._poll(timeout_ms, max_records)

    def _take_up(self, fetcher: ShareFetcher) -> None:
        readers = list(fetcher.readers.values())
        self._serve(readers)
        self._commit_ns = fetcher.commit_ns
        self._read_from(readers, fetcher.catalog_seen, fetcher.due_ns())

    def _out_of_range(self, cursor: ShareReader, error: OffsetOutOfRangeError) -> None:
        raise error

    # ------------------------------------------------------------------ what becomes of them

    def start(self, record: ConsumerRecord) -> bool:
        """Begin with a record that was only reserved. False if it was taken back meanwhile."""
        return self._settle(record, _RUNNING)

    def nack(self, record: ConsumerRecord, delay_ms: float = 0, cause: Cause = "failure") -> None:
        """It did not work: the record comes again, to anybody, after delay_ms.

        One of `cause` is counted; see attempts(). Raises IllegalStateError for a record that this
        consumer does not have.
        """
        if cause not in _CAUSES:
            raise ValueError(f"cause is {cause!r}; use one of {list(_CAUSES)}")
        if not self._settle(record, _back(delay_ms), _CAUSES[cause], delay_ms):
            raise not_held([record])

    def release(self, *records: ConsumerRecord, delay_ms: float = 0) -> None:
        """Give records back: they come again, to anybody, after delay_ms, and nothing is counted.

        A record that was only reserved (`prefetch`) comes as if it had never been given out.
        Raises IllegalStateError for records that this consumer does not have, after all others
        were given back.
        """
        state = _back(delay_ms)
        unknown = [one for one in records if not self._settle(one, state, 0, delay_ms)]
        if unknown:
            raise not_held(unknown)

    def reject(self, record: ConsumerRecord) -> None:
        """Nobody gets this record again, although it was not done. Raises IllegalStateError."""
        if not self._settle(record, _DEAD):
            raise not_held([record])

    def extend(self, record: ConsumerRecord, ms: float) -> None:
        """Say that the work goes on for so long: who supervises this process may look at that.

        No record is taken from a member that lives. Raises IllegalStateError.
        """
        if not self._settle(record, _RUNNING, 0, ms):
            raise not_held([record])

    def attempts(self, record: ConsumerRecord) -> Attempts:
        """How often the record was tried before. Raises IllegalStateError if it is done."""
        counts = self._attempts(record)
        if counts is None:
            raise not_held([record])
        return Attempts(*counts)

    def commit(self) -> None:
        """Store now how far all members are done: the group's committed offset.

        Members do so by themselves, every 100 ms while they work; this is for who looks on.
        """
        with self._in_use() as fetcher:
            fetcher.commit()

    def in_flight(self) -> int:
        """How many records this member has claimed and not given back."""
        with self._in_use() as fetcher:
            return sum(reader.hold() for reader in fetcher.readers.values())

    def metrics(self) -> dict[str, dict[str, int]]:
        """Counters of each partition's ack table, by "topic-partition"."""
        with self._in_use() as fetcher:
            return {f"{tp.topic}-{tp.partition}": one for tp, one in fetcher.figures().items()}


def _back(delay_ms: float) -> int:
    """The state of a record that comes again after so long."""
    if not delay_ms >= 0:
        raise ValueError(f"delay_ms is {delay_ms!r}; it must be 0 or more")
    return _DELAYED if delay_ms else _READY


def _again(address: str, topics: tuple[str, ...], options: ShareOptions) -> ShareConsumer:
    """Unpickles a consumer: a new one, with the same options and topics."""
    return ShareConsumer(*topics, bootstrap_servers=address, **options.as_arguments())
