"""Limits, topic configs and broker options: everything that a user sets, checked at the door.

Topic configs have Kafka's names ("retention.ms") outside and Python's (`retention_ms`) inside;
the fields of `TopicConfig` are the only list of them.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final, cast

from bus.acl import check_acl
from bus.errors import (
    BusConfigurationError,
    InvalidPartitionsError,
    InvalidTopicError,
)
from bus.group_ids import check_groups, parse_groups

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

#: characters of a topic name; with the longest suffix it must fit a file name of 255 bytes
TOPIC_NAME_CHARACTERS_MAX: Final = 249
#: bytes of a client id: its place in the client table, less the final zero
CLIENT_ID_BYTES_MAX: Final = 95
PARTITIONS_MAX: Final = 1024
KEY_BYTES_MAX: Final = 1 * MIB
HEADERS_BYTES_MAX: Final = 64 * KIB - 1
CLIENTS_MAX: Final = 1024
GROUPS_MAX: Final = 1024
#: segments in the ring of one partition (BUS_RING_SLOTS in layout.h)
HOT_SEGMENTS_MAX: Final = 64
#: the ring holds at least this many segments: one active, one spare, two for readers
HOT_SEGMENTS_MIN: Final = 4
SEGMENT_BYTES_MIN: Final = 1 * MIB
SEGMENT_BYTES_MAX: Final = 1 * GIB
HOT_BYTES_MIN: Final = 4 * MIB
HOT_BYTES_MAX: Final = HOT_SEGMENTS_MAX * SEGMENT_BYTES_MAX
MESSAGE_BYTES_MAX: Final = 1 * GIB
#: offsets, sizes and times are signed 64-bit
INTEGER_MAX: Final = (1 << 63) - 1
WEEK_MS: Final = 7 * 24 * 3600 * 1000

assert HOT_BYTES_MIN == HOT_SEGMENTS_MIN * SEGMENT_BYTES_MIN

_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest valid one, or all of them."""
    import difflib  # here, because it is slow to import and only a mistake needs it

    valid = sorted(allowed)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "valid are: " + ", ".join(valid)


def check_options(
    allowed: type | Collection[str], given: Iterable[str], *, what: str = "option"
) -> None:
    """Raise TypeError for the first name in `given` that is not allowed.

    `allowed` is a dataclass, whose fields count, or a collection of names. The message names the
    nearest valid option.
    """
    names = {f.name for f in fields(allowed)} if isinstance(allowed, type) else set(allowed)
    for name in given:
        if name not in names:
            raise TypeError(f"unknown {what} {name!r}; {nearest(name, names)}")


def check_topic_name(name: object) -> str:
    """The name, if a topic can have it; raises InvalidTopicError."""
    if not isinstance(name, str):
        raise InvalidTopicError(f"a topic name must be a str, not {type(name).__name__}")
    if name in (".", "..") or not _TOPIC_NAME.fullmatch(name):
        raise InvalidTopicError(
            f"topic name {name[:300]!r} is not valid; use 1 to {TOPIC_NAME_CHARACTERS_MAX} of the"
            " characters A-Z a-z 0-9 . _ - (and not '.' or '..')"
        )
    return name


def check_partitions(count: object) -> int:
    """The number, if a topic can have so many partitions; raises InvalidPartitionsError."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= PARTITIONS_MAX:
        raise InvalidPartitionsError(
            f"a topic can have 1 to {PARTITIONS_MAX} partitions, not {count!r}"
        )
    return count


def check_client_id(client_id: object) -> str:
    """The id, if it fits the client table; raises BusConfigurationError."""
    if not isinstance(client_id, str) or not client_id or not client_id.isprintable():
        raise BusConfigurationError(f"client_id must be printable text, not {client_id!r}")
    if len(client_id.encode()) > CLIENT_ID_BYTES_MAX:
        raise BusConfigurationError(
            f"client_id {client_id[:40]!r}… is longer than {CLIENT_ID_BYTES_MAX} bytes (UTF-8)"
        )
    return client_id


# ------------------------------------------------------------------------------ topic configs


@dataclass(frozen=True, kw_only=True)
class TopicConfig:
    """The configs of one topic; bytes and milliseconds, -1 stands for "no limit".

    Raises BusConfigurationError for a value out of range, and for two that do not fit together.
    """

    durability: str = "replicated"
    overflow: str = "block"
    retention_ms: int = WEEK_MS
    retention_bytes: int = -1
    cleanup_policy: str = "delete"
    segment_bytes: int = 16 * MIB
    hot_bytes: int = 64 * MIB
    max_message_bytes: int = 64 * MIB
    compression_type: str = "producer"
    message_timestamp_type: str = "CreateTime"
    acl_read: str = ""
    acl_write: str = ""
    max_lag_records: int = -1
    max_lag_bytes: int = -1
    max_lag_groups: str = ""

    def __post_init__(self) -> None:
        for key, name in _FIELDS.items():
            _CHECKS[key](key, getattr(self, name))
        if self.hot_bytes > HOT_SEGMENTS_MAX * self.segment_bytes:
            raise BusConfigurationError(
                f"hot.bytes {self.hot_bytes} needs more than {HOT_SEGMENTS_MAX} segments of"
                f" segment.bytes {self.segment_bytes}; raise segment.bytes to"
                f" {-(-self.hot_bytes // HOT_SEGMENTS_MAX)} or more, or lower hot.bytes"
            )
        if self.lag_limited and not self.lag_groups:
            raise BusConfigurationError(
                "max.lag.records and max.lag.bytes need max.lag.groups: the consumer groups that"
                " producers wait for, separated by commas"
            )

    @property
    def lag_limited(self) -> bool:
        """True if producers wait for consumer groups."""
        return self.max_lag_records >= 0 or self.max_lag_bytes >= 0

    @property
    def lag_groups(self) -> tuple[str, ...]:
        """The groups that producers wait for."""
        return parse_groups(self.max_lag_groups)

    @property
    def hot_segment_bytes(self) -> int:
        """Size of a full-grown hot segment: the ring always holds at least four."""
        return min(self.segment_bytes, self.hot_bytes // HOT_SEGMENTS_MIN)

    @property
    def replicated(self) -> bool:
        """True if a replica writes the topic to disk."""
        return self.durability == "replicated"

    @property
    def drops(self) -> bool:
        """True if the ring overwrites records that nobody has read yet."""
        return self.overflow == "drop"

    @property
    def shared(self) -> bool:
        """True if other users may read or write the topic."""
        return bool(self.acl_read or self.acl_write)

    @property
    def append_time(self) -> bool:
        """True if records carry the time of their append, not the sender's."""
        return self.message_timestamp_type == "LogAppendTime"

    @classmethod
    def from_configs(
        cls, configs: Mapping[str, object], base: "TopicConfig | None" = None
    ) -> "TopicConfig":
        """The configs of {"retention.ms": "60000", …} over `base`; None sets one to its default.

        Numbers may be int or text. Raises BusConfigurationError, which names the nearest valid
        config if one is unknown.
        """
        base = base or cls()
        defaults = cls()
        changes: dict[str, object] = {}
        for key, value in configs.items():
            name = _field_of(key)
            default = getattr(defaults, name)
            changes[name] = default if value is None else _parse(key, value, type(default))
        return replace(base, **changes)  # type: ignore[arg-type]  # _CHECKS looks at each value

    def to_configs(self) -> dict[str, str]:
        """All configs by Kafka's names, as text."""
        return {key: str(getattr(self, name)) for key, name in _FIELDS.items()}


def config_names() -> list[str]:
    """Kafka's names of all topic configs, in the order of the documentation."""
    return list(_FIELDS)


def _field_of(key: object) -> str:
    if isinstance(key, str) and key in _FIELDS:
        return _FIELDS[key]
    raise BusConfigurationError(f"unknown topic config {key!r}; {nearest(str(key), _FIELDS)}")


def _parse(key: str, value: object, kind: type) -> object:
    """Text to the type of the config. A bool is not a number here."""
    if kind is str:
        return value
    if isinstance(value, str):
        try:
            return int(value.strip().replace("_", ""))
        except ValueError as error:
            raise BusConfigurationError(
                f"topic config {key!r} must be a whole number, not {value!r}"
            ) from error
    return value


_Check = Callable[[str, object], None]


def _one_of(*values: str, not_yet: tuple[str, ...] = ()) -> _Check:
    def check(key: str, value: object) -> None:
        if value in values:
            return
        if value in not_yet:
            raise BusConfigurationError(
                f"topic config {key!r}: {value!r} is not implemented yet; use {' or '.join(values)}"
            )
        raise BusConfigurationError(
            f"topic config {key!r} must be {' or '.join(values)}, not {value!r}"
        )

    return check


def _between(least: int, most: int, *, unlimited: bool = False) -> _Check:
    def check(key: str, value: object) -> None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole and (least <= cast(int, value) <= most or (unlimited and value == -1)):
            return
        also = ", or -1 for no limit" if unlimited else ""
        raise BusConfigurationError(
            f"topic config {key!r} must be a whole number from {least} to {most}{also},"
            f" not {value!r}"
        )

    return check


#: what each config may be
_CHECKS: Final[dict[str, _Check]] = {
    "durability": _one_of("replicated", "memory"),
    "overflow": _one_of("block", "drop"),
    "retention.ms": _between(0, INTEGER_MAX, unlimited=True),
    "retention.bytes": _between(0, INTEGER_MAX, unlimited=True),
    "cleanup.policy": _one_of("delete", not_yet=("compact", "compact,delete", "delete,compact")),
    "segment.bytes": _between(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
    "hot.bytes": _between(HOT_BYTES_MIN, HOT_BYTES_MAX),
    "max.message.bytes": _between(1, MESSAGE_BYTES_MAX),
    "compression.type": _one_of(
        "none", "producer", not_yet=("gzip", "snappy", "lz4", "zstd", "uncompressed")
    ),
    "message.timestamp.type": _one_of("CreateTime", "LogAppendTime"),
    "acl.read": check_acl,
    "acl.write": check_acl,
    "max.lag.records": _between(1, INTEGER_MAX, unlimited=True),
    "max.lag.bytes": _between(1, INTEGER_MAX, unlimited=True),
    "max.lag.groups": check_groups,
}
#: Kafka's name -> ours
_FIELDS: Final = {f.name.replace("_", "."): f.name for f in fields(TopicConfig)}

assert _FIELDS.keys() == _CHECKS.keys()


# ----------------------------------------------------------------------------- broker options


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """The options of a broker. Raises BusConfigurationError for a value out of range."""

    #: partitions of a topic that is created without a number
    num_partitions: int = 1
    #: the first send or subscribe creates the topic (Kafka: auto.create.topics.enable)
    auto_create_topics: bool = True
    #: configs of a topic that is created without its own
    topic: TopicConfig = field(default_factory=TopicConfig)
    #: pause between two looks at what has grown too old or too large
    retention_check_ms: int = 30_000
    #: pause between two looks whether shared pages were written over; at least the tick of 1 s
    page_check_ms: int = 1000
    #: durable files are read again, and mended, so long after the time before
    scrub_interval_ms: int = 3_600_000
    #: bytes that the whole bus reads for it in a second; 0: never
    scrub_bytes_per_s: int = 8 * MIB
    #: partitions that share one replica process
    partitions_per_replica: int = 1
    #: an autostarted broker ends when no client has been attached for so long
    linger_s: float = 30.0
    #: unless records are in memory topics, which are gone with it; False: they do not count
    stays_for_memory: bool = True
    #: pause between two writes of changed group offsets to the disk
    offsets_sync_ms: int = 1000
    #: time a clean stop gives the replicas to write all they have
    stop_timeout_s: float = 30.0
    #: let other users connect even while no topic names one
    shared: bool = False

    def __post_init__(self) -> None:
        check_partitions(self.num_partitions)
        for name in (
            "retention_check_ms",
            "page_check_ms",
            "offsets_sync_ms",
            "scrub_interval_ms",
        ):
            self._check_number(name, least=1)
        self._check_number("partitions_per_replica", least=1)
        for name in ("linger_s", "stop_timeout_s", "scrub_bytes_per_s"):
            self._check_number(name, least=0)

    def _check_number(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
            raise BusConfigurationError(
                f"{name} must be a number of {least} or more, not {value!r}"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "BrokerConfig":
        """The config that `to_json` gave, in another process. Raises TypeError, as options do."""
        check_options(cls, values, what="broker option")
        given = dict(values)
        configs = given.pop("topic", {})
        if not isinstance(configs, Mapping):
            raise BusConfigurationError(f"'topic' must map config names to values, not {configs!r}")
        topic = TopicConfig.from_configs(configs)
        return cls(topic=topic, **given)  # type: ignore[arg-type]  # __post_init__ looks at each

    def to_json(self) -> dict[str, object]:
        """The config as plain values."""
        values: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["topic"] = self.topic.to_configs()
        return values
