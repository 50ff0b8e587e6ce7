"""Errors: one tree, made from a message, known by name across the control socket."""

import pickle

import pytest

from bus import errors

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BusError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_travels_as_its_name_and_a_message(kind):
    made = errors.error_named(kind.__name__, "what happened")
    assert type(made) is kind
    assert str(made) == "what happened"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_can_be_pickled(kind):
    copy = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(copy) is kind
    assert str(copy) == "what happened"


@pytest.mark.parametrize("name", ["NoSuchError", "error_named", "KeyError", "__name__", ""])
def test_a_name_that_is_no_error_of_the_bus_becomes_the_root_and_is_kept_in_the_text(name):
    made = errors.error_named(name, "text")
    assert type(made) is errors.BusError
    assert str(made) == f"{name}: text"


def test_kafkas_names_are_the_same_classes():
    assert errors.KafkaError is errors.BusError
    assert errors.KafkaTimeoutError is errors.BusTimeoutError
    assert errors.KafkaConfigurationError is errors.BusConfigurationError


def test_errors_are_also_what_python_would_raise():
    assert issubclass(errors.BusTimeoutError, TimeoutError)
    assert issubclass(errors.BusConfigurationError, ValueError)
    assert issubclass(errors.SerializationError, TypeError)
    assert issubclass(errors.ReadOnlyDirectoryError, PermissionError)


def test_only_retriable_errors_say_so():
    assert errors.BrokerNotRunningError("").retriable
    assert not errors.InvalidTopicError("").retriable


def test_a_corrupt_record_says_where_it_stands():
    error = errors.CorruptRecordError("bad", segment=3, position=4096, offset=7, reason="crc")
    assert (error.segment, error.position, error.offset, error.reason) == (3, 4096, 7, "crc")
    assert pickle.loads(pickle.dumps(error)).position == 4096


def test_a_lock_timeout_says_who_holds_the_lock():
    assert errors.LockTimeoutError("held", owner_tid=42).owner_tid == 42
