"""The options of a producer and of a consumer, each checked once, at the door."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self

from bus.errors import BusConfigurationError, UnsupportedCodecError, UnsupportedVersionError
from bus.group_ids import check_group_id
from bus.partitioner import partitioner_of
from bus.serializers import choice
from bus.serializers.choice import DeserializerOption, SerializerOption
from bus.share_modes import MODES, Mode

Acks = Literal[0, 1, "all", -1]
OffsetReset = Literal["latest", "earliest", "none"]
ReadUntil = Literal["written", "durable"]
Strategy = Literal["range", "roundrobin", "sticky"]

_NO_TRANSACTIONS: Final = (
    "transactions are not there yet; leave transactional_id out, or use acks='all' and commits"
)


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise BusConfigurationError(f"{name} is {value!r}; use one of {list(allowed)}")


def _at_least(name: str, value: float, least: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= least:
        raise BusConfigurationError(f"{name} is {value!r}; it must be a number from {least} on")


@dataclass(frozen=True, kw_only=True)
class _Options:
    @classmethod
    def from_arguments(cls, given: Mapping[str, Any]) -> Self:
        """The options among a constructor's arguments, checked."""
        return cls(**{field.name: given[field.name] for field in fields(cls)})

    @classmethod
    def names(cls) -> set[str]:
        """What a constructor takes by name."""
        return {field.name for field in fields(cls)} | {"bootstrap_servers"}

    def as_arguments(self) -> dict[str, Any]:
        """The options by name, to make the same handle again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class ProducerOptions(_Options):
    """See Producer."""

    client_id: str | None = None
    acks: Acks = "all"
    key_serializer: SerializerOption = None
    value_serializer: SerializerOption = None
    partitioner: Any = "mmh3"
    compression_type: str | None = None
    batch_size: int = 16_384
    linger_ms: int = 0
    max_block_ms: int = 60_000
    enable_idempotence: bool = True
    transactional_id: str | None = None
    transaction_timeout_ms: int = 60_000
    autostart: bool = True

    def __post_init__(self) -> None:
        _one_of("acks", self.acks, (0, 1, "all", -1))
        if self.acks == -1:  # Kafka's other way to write it
            object.__setattr__(self, "acks", "all")
        choice.key_serializer(self.key_serializer)
        choice.value_serializer(self.value_serializer)
        partitioner_of(self.partitioner)
        if self.compression_type not in (None, "none"):
            raise UnsupportedCodecError(
                f"compression_type {self.compression_type!r} is not there yet; leave it out"
            )
        for name in ("batch_size", "linger_ms", "max_block_ms", "transaction_timeout_ms"):
            _at_least(name, getattr(self, name), 0)
        if self.transactional_id is not None:
            raise self.no_transactions()

    def no_transactions(self) -> UnsupportedVersionError:
        """What every call about transactions raises."""
        return UnsupportedVersionError(_NO_TRANSACTIONS)


@dataclass(frozen=True, kw_only=True)
class ConsumerOptions(_Options):
    """See Consumer."""

    group_id: str | None = None
    group_instance_id: str | None = None
    client_id: str | None = None
    key_deserializer: DeserializerOption = None
    value_deserializer: DeserializerOption = None
    auto_offset_reset: OffsetReset = "latest"
    enable_auto_commit: bool = True
    auto_commit_interval_ms: int = 5_000
    max_poll_records: int = 500
    max_poll_interval_ms: int = 300_000
    partition_assignment_strategy: Strategy = "sticky"
    read_until: ReadUntil = "written"
    isolation_level: Literal["read_uncommitted", "read_committed"] = "read_uncommitted"
    check_crcs: bool = True
    consumer_timeout_ms: float = math.inf
    spin_us: float | None = None
    autostart: bool = True

    def __post_init__(self) -> None:
        _one_of("auto_offset_reset", self.auto_offset_reset, ("latest", "earliest", "none"))
        _one_of("read_until", self.read_until, ("written", "durable"))
        _one_of(
            "partition_assignment_strategy",
            self.partition_assignment_strategy,
            ("range", "roundrobin", "sticky"),
        )
        _one_of("isolation_level", self.isolation_level, ("read_uncommitted", "read_committed"))
        if self.isolation_level == "read_committed":
            raise UnsupportedVersionError(_NO_TRANSACTIONS)
        if self.group_id is not None:
            check_group_id(self.group_id)
        if self.group_instance_id is not None:
            raise UnsupportedVersionError(
                "static membership (group_instance_id) is not there yet; leave it out"
            )
        choice.key_deserializer(self.key_deserializer)
        choice.value_deserializer(self.value_deserializer)
        _at_least("max_poll_records", self.max_poll_records, 1)
        for name in ("auto_commit_interval_ms", "max_poll_interval_ms", "consumer_timeout_ms"):
            _at_least(name, getattr(self, name), 0)
        if self.spin_us is not None:
            _at_least("spin_us", self.spin_us, 0)


@dataclass(frozen=True, kw_only=True)
class ShareOptions(_Options):
    """See ShareConsumer."""

    group_id: str
    mode: Mode = "queue"
    client_id: str | None = None
    key_deserializer: DeserializerOption = None
    value_deserializer: DeserializerOption = None
    auto_offset_reset: OffsetReset = "earliest"
    max_poll_records: int = 500
    read_until: ReadUntil = "written"
    check_crcs: bool = True
    consumer_timeout_ms: float = math.inf
    spin_us: float | None = None
    autostart: bool = True

    def __post_init__(self) -> None:
        check_group_id(self.group_id)
        _one_of("mode", self.mode, MODES)
        _one_of("auto_offset_reset", self.auto_offset_reset, ("earliest", "latest"))
        _one_of("read_until", self.read_until, ("written", "durable"))
        choice.key_deserializer(self.key_deserializer)
        choice.value_deserializer(self.value_deserializer)
        _at_least("max_poll_records", self.max_poll_records, 1)
        _at_least("consumer_timeout_ms", self.consumer_timeout_ms, 0)
        if self.spin_us is not None:
            _at_least("spin_us", self.spin_us, 0)
