"""Programs of other users send and read arrays: by copying, aligned alike."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

import bus
from bus.guest import GuestClient
from bus.guest_producer import GuestProducer
from bus.guest_reader import GuestReader
from bus.serializers import Arrow, Numpy, Pickle
from tests.security.users import ALICE, as_user, reachable_bus
from tests.serializers.rig import ALIGN, address, received, records, sent
from tests.waiting import eventually

#: loaded before the fork: the checkout may be closed to other users
GUEST_MODULES = (GuestClient, GuestProducer, GuestReader)
FORMATS = {"numpy": Numpy(), "arrow": Arrow(), "pickle": Pickle()}


def value_of(kind: str, items: int) -> Any:
    array = numpy.arange(items, dtype=numpy.uint32)
    if kind == "arrow":
        return pyarrow.record_batch({"x": array})
    return {"array": array} if kind == "pickle" else array


def array_in(kind: str, value: Any) -> Any:
    if kind == "arrow":
        return value.column(0).to_numpy()
    return value["array"] if kind == "pickle" else value


#: small ones, and one that is larger than a guest's chunk
SIZES = (1, 3, 100, 5000, 100_000)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A bus on which ALICE may read and write the topics "numpy", "arrow" and "pickle"."""
    allowed = {"acl.read": f"user:{ALICE}", "acl.write": f"user:{ALICE}"}
    with (
        tempfile.TemporaryDirectory(prefix="bus-test-") as name,
        reachable_bus(Path(name)) as path,
        bus.Broker(path),
        bus.Admin(path) as admin,
    ):
        topics = [f"{kind}-{who}" for kind in FORMATS for who in ("guest", "owner")]
        admin.create_topics([bus.NewTopic(one, topic_configs=allowed) for one in topics])
        eventually((path / "guests.sock").exists)
        yield path


def problems(kind: str, path: Path, topic: str) -> list[str]:
    """What is wrong with the values of a topic, read by whoever calls this."""
    wrong = []
    for size, record in zip(SIZES, records(path, topic, FORMATS[kind], len(SIZES)), strict=True):
        array = array_in(kind, record.value)
        if array.tolist() != list(range(size)):
            wrong.append(f"{size} items came as {array!r}")
        if array.flags.writeable:
            wrong.append(f"{size} items can be written to")
        view = numpy.frombuffer(record.view(), numpy.uint8)
        if address(view) % ALIGN or address(array) % ALIGN:
            wrong.append(f"{size} items lie at {address(view):x} and {address(array):x}")
    return wrong


@pytest.mark.parametrize("kind", FORMATS)
def test_a_guest_reads_arrays_aligned_and_read_only(shared: Path, kind: str) -> None:
    topic = f"{kind}-owner"
    sent(shared, topic, FORMATS[kind], [value_of(kind, size) for size in SIZES])
    assert as_user(ALICE, lambda: problems(kind, shared, topic)) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_guest_sends_in_parts_is_aligned_for_everybody(shared: Path, kind: str) -> None:
    topic = f"{kind}-guest"

    def send() -> int:
        with bus.Producer(shared, value_serializer=FORMATS[kind]) as producer:
            assert isinstance(producer, GuestProducer)
            values = [value_of(kind, size) for size in SIZES]
            producer.send(topic, values[0], key=b"the key").get(20)
            producer.send_many(topic, values[1:]).get(20)
            producer.flush(20)
        return len(values)

    assert as_user(ALICE, send) == len(SIZES)
    assert problems(kind, shared, topic) == []


def test_a_guests_array_outlives_its_consumer(shared: Path) -> None:
    def hold() -> bool:
        held = received(shared, "numpy-owner", Numpy(), len(SIZES))
        return [array.tolist() for array in held] == [list(range(size)) for size in SIZES]

    assert as_user(ALICE, hold) is True


def test_what_a_guest_cannot_serialize_is_not_sent(shared: Path) -> None:
    def send() -> None:
        with bus.Producer(shared, value_serializer="numpy") as producer:
            producer.send("numpy-guest", [1, 2])

    name, text = as_user(ALICE, send)
    assert name == "SerializationError"
    assert "must be a numpy array, not list" in text
