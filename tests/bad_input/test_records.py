"""Records, topics and options that a bus refuses: a typed error, and the log ends where it did."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.config import HEADERS_BYTES_MAX, KEY_BYTES_MAX
from bus.errors import (
    BusConfigurationError,
    ClosedError,
    InvalidGroupIdError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    SerializationError,
    UnknownTopicOrPartitionError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)
from tests.buses import end_bus

Send = Callable[[bus.Producer], object]

KIB = 1 << 10
PARTITIONS = 2


@pytest.fixture(scope="module")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One bus for all refusals, with a topic "t" that takes records up to 100 KiB."""
    path = tmp_path_factory.mktemp("refused") / "bus"
    with bus.Broker(path), bus.Admin(path) as admin:
        configs = {"max.message.bytes": str(100 * KIB)}
        admin.create_topics([bus.NewTopic("t", PARTITIONS, topic_configs=configs)])
        yield path
    assert end_bus(path) == []


@pytest.fixture
def producer(shared_dir: Path) -> Iterator[bus.Producer]:
    """Of the shared bus; the test must leave all logs as they are."""
    with bus.Producer(shared_dir) as producer:
        first = producer.send("t", b"before", partition=0).get(timeout=10).offset
        ends = log_ends(shared_dir)
        yield producer
        assert log_ends(shared_dir) == ends
        assert producer.send("t", b"after", partition=0).get(timeout=10).offset == first + 1


def log_ends(path: Path) -> dict[bus.TopicPartition, int]:
    """Of every partition of every topic."""
    with bus.Consumer(bootstrap_servers=path) as consumer:
        partitions = [
            bus.TopicPartition(topic, number)
            for topic in consumer.topics()
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        return consumer.end_offsets(partitions)


def many(values: list[Any], **options: Any) -> Send:
    return lambda producer: producer.send_many("t", values, **options)


def one(*arguments: Any, **options: Any) -> Send:
    return lambda producer: producer.send("t", *arguments, **options)


TOO_LARGE = MessageSizeTooLargeError
UNKNOWN = UnknownTopicOrPartitionError

REFUSED: dict[str, tuple[Send, type[Exception], str]] = {
    "value": (one(b"x" * (100 * KIB + 1)), TOO_LARGE, "102401 bytes, topic 't' allows 102400"),
    "key and value": (one(b"x" * 100 * KIB, b"k"), TOO_LARGE, "raise its max.message.bytes"),
    "key": (one(b"", b"k" * (KEY_BYTES_MAX + 1)), TOO_LARGE, f"key .* limit is {KEY_BYTES_MAX}"),
    "headers": (
        one(b"", headers=[("h", b"x" * HEADERS_BYTES_MAX)]),
        TOO_LARGE,
        f"headers .* limit is {HEADERS_BYTES_MAX}",
    ),
    "header name": (one(b"", headers=[("h" * (1 << 16), b"")]), TOO_LARGE, "header name"),
    "large in many": (many([b"x", b"x" * 101 * KIB]), TOO_LARGE, "103424 bytes, topic 't'"),
    "str": (one("text"), SerializationError, "value must be bytes-like or None, not str; encode"),
    "str key": (one(b"", "text"), SerializationError, "key_serializer"),
    "str in many": (many([b"x", "text"]), SerializationError, "value_serializer"),
    "str key in many": (many([b"x"], keys=["k"]), SerializationError, "key_serializer"),
    "int": (one(7), SerializationError, "not int"),
    "list": (one([b"x"]), SerializationError, "not list"),
    "strided": (one(memoryview(b"abcd")[::2]), SerializationError, "not contiguous"),
    "int header": (one(b"", headers=[("h", 7)]), SerializationError, r"not \(str, int\)"),
    "bytes header": (one(b"", headers=[(b"h", b"")]), SerializationError, r"not \(bytes, bytes\)"),
    "header, no pair": (one(b"", headers=["h"]), SerializationError, "headers are a list of"),
    "headers, no list": (one(b"", headers=7), SerializationError, "headers"),
    "partition": (one(b"", partition=PARTITIONS), UNKNOWN, r"'t' has partitions 0\.\.1, not 2"),
    "partition -1": (one(b"", partition=-1), UNKNOWN, r"0\.\.1, not -1"),
    "partition in many": (many([b""], partition=7), UNKNOWN, r"0\.\.1, not 7"),
    "partition, keys": (many([b""], keys=[b"k"], partition=7), UNKNOWN, r"0\.\.1, not 7"),
    "partition str": (one(b"", partition="0"), TypeError, "str"),
    "partition huge": (one(b"", partition=1 << 70), UNKNOWN, "partition"),
    "time": (one(b"", timestamp_ms=1 << 62), ValueError, "timestamp_ms"),
    "time before": (one(b"", timestamp_ms=-1), ValueError, "timestamp_ms"),
    "time nan": (one(b"", timestamp_ms=float("nan")), ValueError, "timestamp_ms"),
    "time str": (one(b"", timestamp_ms="now"), TypeError, "str"),
    "none in many": (many([]), ValueError, "at least one value"),
    "lengths": (many([b"a", b"b"], keys=[b"k"]), ValueError, "2 values but 1 keys"),
    "header text": (one(b"", headers=[("\ud800", b"")]), SerializationError, "not valid text"),
    "topic int": (lambda producer: producer.send(7, b""), TypeError, "a topic is a str, not int"),
    "topic bytes": (lambda producer: producer.send(b"t", b""), TypeError, "str, not bytes"),
    **{
        f"topic {name!r:.20}": (
            lambda producer, name=name: producer.send(name, b""),
            InvalidTopicError,
            "use 1 to 249 of the characters A-Z",
        )
        for name in ("", ".", "..", "a/b", "ä", "a b", "a\0", "x" * 250, "../t")
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_record_that_cannot_be_stored_is_refused_and_nothing_is(
    producer: bus.Producer, case: str
) -> None:
    send, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        send(producer)


def test_a_serializer_that_fails_stores_nothing(shared_dir: Path, producer: bus.Producer) -> None:
    def refuse(value: object) -> bytes:
        raise LookupError(f"no codec for {value}")

    for option in ("value_serializer", "key_serializer"):
        with bus.Producer(shared_dir, **{option: refuse}) as careless:  # type: ignore[arg-type]
            with pytest.raises(LookupError, match="no codec for"):
                careless.send("t", "x", b"x")
            with pytest.raises(LookupError, match="no codec for"):
                careless.send_many("t", ["x"], keys=[b"x"])
    with (
        bus.Producer(shared_dir, value_serializer=lambda value: value) as careless,
        pytest.raises(SerializationError, match="not str"),
    ):
        careless.send("t", "text")


@pytest.mark.parametrize("answer", [7, -1, "0", None, 0.0])
def test_a_partitioner_that_names_no_partition_stores_nothing(
    shared_dir: Path, producer: bus.Producer, answer: Any
) -> None:
    with bus.Producer(shared_dir, partitioner=lambda *_: answer) as careless:
        for send in (one(b"x", b"k"), many([b"x"], keys=[b"k"])):
            with pytest.raises(BusConfigurationError, match=rf"chose {answer!r}; .*0\.\.1"):
                send(careless)


def test_without_automatic_creation_an_unknown_topic_is_refused_with_the_command_that_makes_it(
    bus_dir: Path,
) -> None:
    with bus.Broker(bus_dir, config=bus.BrokerConfig(auto_create_topics=False)):
        with bus.Producer(bus_dir) as producer:
            with pytest.raises(UNKNOWN, match=r"topic 'none'.*bus topics create none"):
                producer.send("none", b"x")
            with pytest.raises(UNKNOWN, match="bus topics create none"):
                producer.partitions_for("none")
        with pytest.raises(UNKNOWN, match="bus topics create none"):
            bus.Consumer("none", bootstrap_servers=bus_dir)
        with bus.Consumer(bootstrap_servers=bus_dir) as consumer:
            with pytest.raises(UNKNOWN, match="bus topics create none"):
                consumer.assign([bus.TopicPartition("none", 0)])
            assert consumer.topics() == set()


def test_a_partition_that_does_not_exist_cannot_be_read(
    shared_dir: Path, producer: bus.Producer
) -> None:
    absent = bus.TopicPartition("t", PARTITIONS)
    with bus.Consumer(bootstrap_servers=shared_dir, group_id="g") as consumer:
        for use in (
            lambda: consumer.assign([absent]),
            lambda: consumer.highwater(absent),
            lambda: consumer.end_offsets([absent]),
            lambda: consumer.beginning_offsets([absent]),
            lambda: consumer.offsets_for_times({absent: 0}),
            lambda: consumer.committed(absent),
            lambda: consumer.commit({absent: bus.OffsetAndMetadata(0)}),
        ):
            with pytest.raises(UNKNOWN, match=r"'t' has (no partition 2|partitions 0\.\.1)"):
                use()


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"ack": 1}, TypeError, "unknown producer option 'ack'; did you mean 'acks'"),
    ({"bootstrap_server": "x"}, TypeError, "did you mean 'bootstrap_servers'"),
    ({"max_blok_ms": 1}, TypeError, "did you mean 'max_block_ms'"),
    ({"zzz": 1}, TypeError, "valid are: acks, "),
    ({"acks": 2}, BusConfigurationError, r"acks is 2; use one of \[0, 1, 'all', -1\]"),
    ({"acks": "none"}, BusConfigurationError, "acks is 'none'"),
    ({"max_block_ms": -1}, BusConfigurationError, "max_block_ms is -1; .* from 0 on"),
    ({"max_block_ms": "1"}, BusConfigurationError, "max_block_ms is '1'"),
    ({"batch_size": None}, BusConfigurationError, "batch_size is None"),
    ({"value_serializer": 7}, BusConfigurationError, "must be a function, the name of a format"),
    ({"partitioner": "crc"}, BusConfigurationError, "partitioner"),
    ({"client_id": "x" * 96}, BusConfigurationError, "client_id"),
    ({"client_id": 7}, BusConfigurationError, "client_id"),
    ({"compression_type": "gzip"}, UnsupportedCodecError, "leave it out"),
    ({"transactional_id": "x"}, UnsupportedVersionError, "leave transactional_id out"),
]


@pytest.mark.parametrize(("options", "kind", "words"), OPTIONS, ids=str)
def test_a_bad_producer_option_is_named_and_nothing_is_made(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        bus.Producer(tmp_path / "bus", **options)
    assert not (tmp_path / "bus").exists()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"groupid": "g"}, TypeError, "unknown consumer option 'groupid'; did you mean 'group_id'"),
        ({"bootstrap_server": "x"}, TypeError, "did you mean 'bootstrap_servers'"),
        ({"group_id": ""}, InvalidGroupIdError, "group"),
        ({"group_id": 7}, InvalidGroupIdError, "group"),
        ({"auto_offset_reset": "first"}, BusConfigurationError, "'latest', 'earliest', 'none'"),
        ({"read_until": "end"}, BusConfigurationError, "'written', 'durable'"),
        ({"max_poll_records": 0}, BusConfigurationError, "max_poll_records is 0"),
        ({"spin_us": -1}, BusConfigurationError, "spin_us is -1"),
        ({"consumer_timeout_ms": "1"}, BusConfigurationError, "consumer_timeout_ms is '1'"),
        ({"consumer_timeout_ms": float("nan")}, BusConfigurationError, "consumer_timeout_ms"),
        ({"isolation_level": "read_committed"}, UnsupportedVersionError, "transactions"),
        ({"partition_assignment_strategy": "fair"}, BusConfigurationError, "'sticky'"),
        ({"value_deserializer": "jason"}, BusConfigurationError, "no format is named 'jason'"),
    ],
    ids=str,
)
def test_a_bad_consumer_option_is_named_and_nothing_is_made(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        bus.Consumer("t", **{"bootstrap_servers": tmp_path / "bus", **options})
    assert not (tmp_path / "bus").exists()


def test_a_consumer_of_a_bad_topic_leaves_no_topic_and_no_client_behind(bus_dir: Path) -> None:
    with bus.Broker(bus_dir), bus.Admin(bus_dir) as admin:
        for topics in (("a/b",), ("",), ("good", "..")):
            with pytest.raises(InvalidTopicError):
                bus.Consumer(*topics, bootstrap_servers=bus_dir)
        with pytest.raises(InvalidTopicError, match="must be a str, not int"):
            bus.Consumer(7, bootstrap_servers=bus_dir)  # type: ignore[arg-type]
        assert admin.list_topics() == []


def test_a_closed_handle_says_so_in_every_method(bus_dir: Path) -> None:
    producer = bus.Producer(bus_dir)
    consumer = bus.Consumer("t", bootstrap_servers=bus_dir, group_id="g")
    admin = bus.Admin(bus_dir)
    for handle in (producer, consumer, admin):
        handle.close()
        handle.close()
    tp = bus.TopicPartition("t", 0)
    uses: list[Callable[[], object]] = [
        lambda: producer.send("t", b"x"),
        lambda: producer.send_many("t", [b"x"]),
        lambda: producer.send_many("t", [b"x"], keys=[b"k"]),
        lambda: producer.flush(),
        lambda: producer.partitions_for("t"),
        lambda: consumer.poll(),
        lambda: consumer.subscribe(["t"]),
        lambda: consumer.assign([tp]),
        lambda: consumer.seek(tp, 0),
        lambda: consumer.commit(),
        lambda: consumer.committed(tp),
        lambda: consumer.topics(),
        lambda: consumer.end_offsets([tp]),
        lambda: consumer.lag(),
        lambda: admin.list_topics(),
        lambda: admin.create_topics([bus.NewTopic("x")]),
    ]
    for use in uses:
        with pytest.raises(ClosedError, match=r"closed; make (another|a new) one"):
            use()
    assert list(consumer) == []
    assert "closed" in repr(producer)
    assert "closed" in repr(consumer)
