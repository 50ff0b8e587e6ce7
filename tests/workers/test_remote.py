"""Exceptions on their way to another process: text always, the object only if it can be made."""

import pickle
import traceback

import pytest

from workers.errors import RemoteError, WorkerDied
from workers.remote import CHAIN_MAX, TEXT_CHARS_MAX, RemoteTraceback, ToldException


class Plain(Exception):
    """As most people write them."""


class NeedsTwo(Exception):
    """Its pickle cannot be read: the default one calls it with the message alone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Changes(Exception):
    """Comes out of its pickle with another message."""

    def __init__(self, text: str) -> None:
        super().__init__(f"<{text}>")


class Turns(Exception):
    """Comes out of its pickle as something else."""

    def __reduce__(self) -> tuple[object, ...]:
        return str, ("no exception at all",)


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Exits(Exception):
    """Ends whoever pickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        raise SystemExit(4)


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001 - any kind is to be told
        return raised


def carried(error: BaseException) -> ToldException:
    return ToldException.from_bytes(ToldException.of(caught(error)).to_bytes())


def test_an_exception_comes_out_as_it_was_with_its_notes_and_the_worker_s_traceback() -> None:
    error = Plain("no stock", 7)
    error.add_note("order 3")
    told = carried(error)
    made = told.exception()
    assert type(made) is Plain
    assert made.args == ("no stock", 7)
    assert made.__notes__ == ["order 3"]
    assert isinstance(made.__cause__, RemoteTraceback)
    assert "in caught" in "".join(traceback.format_exception(made))
    assert told.type_name == "tests.workers.test_remote.Plain"


def test_each_reader_gets_an_object_of_its_own() -> None:
    told = carried(Plain("x"))
    assert told.exception() is not told.exception()


@pytest.mark.parametrize(
    "error",
    [NeedsTwo(404, "not here"), Changes("x"), Turns("x"), Exits("x"), Plain(lambda: None)],
    ids=lambda error: type(error).__name__,
)
def test_one_that_cannot_be_made_again_is_told_as_text(error: Exception) -> None:
    told = carried(error)
    assert told.pickled == b""
    made = told.exception()
    assert isinstance(made, RemoteError)
    assert made.type_name.endswith(type(error).__qualname__)
    assert str(error) in str(made)
    assert "in caught" in made.traceback


def test_one_without_a_text_is_told_all_the_same() -> None:
    told = carried(Mute())
    assert told.text == "<its __str__ raised RuntimeError>"
    assert "Mute" in told.traceback


def test_one_that_only_the_worker_can_make_is_text_for_the_reader() -> None:
    told = carried(Plain("x"))
    spoiled = ToldException(told.type_name, told.text, told.traceback, pickled=b"cnowhere\nX\n.")
    made = spoiled.exception()
    assert isinstance(made, RemoteError)
    assert str(made) == "tests.workers.test_remote.Plain: x"


def test_the_chain_of_causes_is_told() -> None:
    try:
        try:
            raise KeyError("k")
        except KeyError as error:
            raise Plain("outer") from error
    except Plain as error:
        told = ToldException.from_bytes(ToldException.of(error).to_bytes())
    assert told.chain == (("KeyError", "'k'"),)
    assert "direct cause" in told.traceback


def test_a_ring_of_causes_ends() -> None:
    one, other = Plain("one"), Plain("other")
    one.__cause__, other.__cause__ = other, one
    assert len(carried(one).chain) == CHAIN_MAX


def test_a_context_that_was_suppressed_is_not_told() -> None:
    try:
        try:
            raise KeyError("k")
        except KeyError:
            raise Plain("outer") from None
    except Plain as error:
        assert ToldException.of(error).chain == ()


def test_a_huge_text_is_shortened_and_a_strange_one_survives() -> None:
    told = carried(Plain("x" * 10_000_000))
    assert len(told.text) < TEXT_CHARS_MAX + 100
    assert told.pickled == b""
    assert carried(Plain("lone \ud800 surrogate")).text == "lone \ud800 surrogate"


def test_what_is_no_exception_raises_value_error() -> None:
    for data in (b"", b"\1", b"\xff\xff\xff\xff", b"\2\0\0\0{}"):
        with pytest.raises(ValueError):
            ToldException.from_bytes(data)


def test_errors_with_attributes_survive_their_pickle() -> None:
    error = WorkerDied("gone", pid=3, signal=9, out_of_memory=True)
    made = pickle.loads(pickle.dumps(error))
    assert vars(made) == vars(error)
    assert isinstance(made, WorkerDied)
    assert made.args == error.args
