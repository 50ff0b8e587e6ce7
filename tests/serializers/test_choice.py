"""What may be given as a serializer, and what is said of anything else."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

import bus
from bus.autostart import environment
from bus.errors import BusConfigurationError, SerializationError
from bus.options import ConsumerOptions, ProducerOptions
from bus.serializers import Arrow, Json, Numpy, Pickle, choice
from tests.serializers.rig import records


@pytest.mark.parametrize("name", ["json", "msgpack", "numpy", "arrow"])
def test_a_name_stands_for_its_format(name: str) -> None:
    for function in (choice.value_serializer, choice.key_serializer, choice.key_deserializer):
        assert callable(function(name))  # type: ignore[operator]
    assert ProducerOptions(value_serializer=name).value_serializer == name  # type: ignore[arg-type]


def test_pickle_has_no_name_and_why_is_said() -> None:
    for options in (
        lambda: ProducerOptions(value_serializer="pickle"),  # type: ignore[arg-type]
        lambda: ConsumerOptions(value_deserializer="pickle"),  # type: ignore[arg-type]
    ):
        with pytest.raises(BusConfigurationError, match=r"any code.*bus\.serializers\.Pickle\(\)"):
            options()


@pytest.mark.parametrize("option", ["key_serializer", "value_serializer"])
def test_what_cannot_serialize_is_refused_at_the_door(tmp_path: Path, option: str) -> None:
    for given, message in (
        ("jsn", "did you mean 'json'"),
        (Numpy, r"is a class; give it an instance: Numpy\(\)"),
        (5, r"must be a function, the name of a format, or an object with serialize\(\), not int"),
    ):
        options: Any = {option: given}
        with pytest.raises(BusConfigurationError, match=message):
            bus.Producer(tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["key_deserializer", "value_deserializer"])
def test_what_cannot_deserialize_is_refused_at_the_door(tmp_path: Path, option: str) -> None:
    for given, message in (
        ("arow", "did you mean 'arrow'"),
        (Arrow, r"is a class; give it an instance: Arrow\(\)"),
        (b"", r"or an object with deserialize\(\), not bytes"),
    ):
        options: Any = {option: given}
        with pytest.raises(BusConfigurationError, match=message):
            bus.Consumer(bootstrap_servers=tmp_path, **options)
    assert not list(tmp_path.iterdir())


class Reversed:
    """A format of somebody's own: bytes backwards, read without a copy."""

    in_place = True

    def serialize(self, value: bytes) -> bus.Parts:
        if not isinstance(value, bytes):
            raise SerializationError("bytes, please")
        return bus.Parts([value[::-1]])

    def deserialize(self, data: memoryview) -> memoryview:
        assert data.readonly
        return data[::-1]


class Copied(Reversed):
    """The same, of bytes."""

    in_place = False

    def deserialize(self, data: bytes) -> bytes:  # type: ignore[override]
        return data[::-1]


def test_a_format_of_ones_own_is_given_what_it_asks_for(shared_bus: Path, topic: str) -> None:
    with bus.Producer(shared_bus, value_serializer=Reversed()) as producer:
        producer.send(topic, b"abc").get(20)
        with pytest.raises(SerializationError, match="bytes, please"):
            producer.send(topic, "text")
    (view,) = (record.value for record in records(shared_bus, topic, Reversed(), 1))
    assert isinstance(view, memoryview)
    assert bytes(view) == b"abc"
    assert [record.value for record in records(shared_bus, topic, Copied(), 1)] == [b"abc"]
    assert [record.value for record in records(shared_bus, topic, lambda data: data, 1)] == [b"cba"]


def test_handles_with_formats_can_be_pickled(shared_bus: Path, topic: str) -> None:
    with (
        bus.Producer(shared_bus, value_serializer="numpy", key_serializer=Json()) as producer,
        pickle.loads(pickle.dumps(producer)) as copy,
    ):
        copy.send(topic, numpy.arange(3), key={"a": 1}).get(20)
    with (
        bus.Consumer(
            topic,
            bootstrap_servers=shared_bus,
            value_deserializer=Numpy(),
            key_deserializer="json",
            auto_offset_reset="earliest",
        ) as consumer,
        pickle.loads(pickle.dumps(consumer)) as again,
    ):
        record = next(again)
        assert (record.key, record.value.tolist()) == ({"a": 1}, [0, 1, 2])
        del record
    for format in (Json(), Numpy(), Pickle(), Arrow(validate=False)):
        assert type(pickle.loads(pickle.dumps(format))) is type(format)
    assert pickle.loads(pickle.dumps(Arrow(validate=False))).validate is False


@pytest.mark.parametrize(
    ("library", "name", "extra"),
    [
        ("numpy", "Numpy", "numpy"),
        ("pyarrow", "Arrow", "arrow"),
        ("msgpack", "MessagePack", "msgpack"),
    ],
)
def test_a_library_that_is_missing_is_named_with_what_to_install(
    library: str, name: str, extra: str
) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None
import bus
from bus.serializers import Json, Pickle
try:
    from bus.serializers import {name}
except ImportError as error:
    print(type(error).__name__, error)
try:
    bus.Producer(".", value_serializer={extra!r})
except bus.errors.BusError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    expected = f"this format needs {library}, which is not installed: pip install 'bus[{extra}]'"
    assert done.stdout.splitlines() == [f"MissingLibraryError {expected}", expected]


def test_a_program_that_uses_no_format_loads_no_library() -> None:
    code = "import sys, bus; bus.Producer, bus.Consumer; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    loaded = set(done.stdout.split())
    assert "bus.producer" in loaded
    assert not loaded & {"numpy", "pyarrow", "msgpack", "pickle", "bus.serializers.json"}


def test_only_formats_are_found_in_the_package() -> None:
    assert sorted(bus.serializers.__all__) == ["Arrow", "Json", "MessagePack", "Numpy", "Pickle"]
    with pytest.raises(AttributeError, match="has no attribute 'Yaml'"):
        _ = bus.serializers.Yaml


@pytest.mark.parametrize("name", bus.serializers.__all__)
def test_a_null_value_stays_null(shared_bus: Path, topic: str, name: str) -> None:
    format = getattr(bus.serializers, name)()
    with bus.Producer(shared_bus, value_serializer=format) as producer:
        producer.send(topic, None, key=b"k").get(20)
    (record,) = records(shared_bus, topic, format, 1)
    assert record.value is None
    assert record.serialized_value_size == -1
