"""An exception on its way from a worker to another process.

Text always travels: type, message, traceback, notes and the chain of causes, read in the worker,
where the exception is whole. The pickled exception travels beside it only if the worker has made
it again from its own pickle and got the same type and message: what would raise, or come out as
something else, in the reader is told as text (`RemoteError`). Each reader gets a new object.

    length of the text (4 bytes, little-endian) | text (JSON) | pickle, or nothing
"""

import json
import pickle
import struct
import traceback
from dataclasses import dataclass, field
from typing import Any, Final, Self

from workers.errors import RemoteError

#: An exception can carry a whole data set, and a recursion's traceback has no end.
TEXT_CHARS_MAX: Final = 64 * 1024
PICKLE_BYTES_MAX: Final = 1 << 20
NOTES_MAX: Final = 100
#: How far causes are followed; a chain may even be a ring.
CHAIN_MAX: Final = 16
_LENGTH: Final = struct.Struct("<I")


class RemoteTraceback(Exception):
    """The cause of an exception that was made again: shows where the worker raised it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


@dataclass(frozen=True, slots=True)
class ToldException:
    """An exception as text, and pickled if that works.

    `chain` names the causes, nearest first: (type name, message).
    """

    type_name: str
    text: str
    traceback: str
    notes: tuple[str, ...] = ()
    chain: tuple[tuple[str, str], ...] = ()
    pickled: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, error: BaseException, *, pickled: bool = True) -> Self:
        """Reads an exception, in the process that caught it. Never raises because of it."""
        return cls(
            type_name=type_name(error),
            text=message(error),
            traceback=formatted(error),
            notes=_notes(error),
            chain=tuple((type_name(one), message(one)) for one in _causes(error)),
            pickled=pickle_that_works(error) if pickled else b"",
        )

    def to_bytes(self) -> bytes:
        """For the way; `from_bytes` reads it."""
        fields = (self.type_name, self.text, self.traceback, self.notes, self.chain)
        text = json.dumps(fields).encode()  # surrogates become escapes, so it never fails
        return _LENGTH.pack(len(text)) + text + self.pickled

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. Raises ValueError for anything else."""
        if len(data) < _LENGTH.size:
            raise ValueError(f"{len(data)} bytes are no exception")
        end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        name, text, trace, notes, chain = json.loads(data[_LENGTH.size : end])
        causes = tuple((one[0], one[1]) for one in chain)
        return cls(name, text, trace, tuple(notes), causes, data[end:])

    def exception(self) -> BaseException:
        """A new exception to raise here, caused by a RemoteTraceback that shows the worker's.

        The same type as in the worker if its pickle can be read here too, else a RemoteError.
        """
        error = self._unpickled() if self.pickled else None
        if error is None:
            error = self.remote_error()
        error.__cause__ = RemoteTraceback(self.traceback)
        return error

    def remote_error(self) -> RemoteError:
        """The exception as text alone."""
        error = RemoteError(
            f"{self.type_name}: {self.text}" if self.text else self.type_name,
            type_name=self.type_name,
            text=self.text,
            traceback=self.traceback,
            notes=self.notes,
        )
        for note in self.notes:
            error.add_note(note)
        return error

    def _unpickled(self) -> BaseException | None:
        try:
            error = pickle.loads(self.pickled)
        except BaseException:  # noqa: BLE001 - code of the exception's own; the text tells it all
            return None
        return error if isinstance(error, BaseException) else None


def type_name(error: BaseException) -> str:
    """The type with its module, as tracebacks print it: "ValueError", "shop.NoStock"."""
    made = type(error)
    module = getattr(made, "__module__", None)
    name = str(getattr(made, "__qualname__", made.__name__))
    return name if module in ("builtins", None) else f"{module}.{name}"


def message(error: BaseException) -> str:
    """str(error), shortened; or a word about why there is none."""
    try:
        return _short(str(error))
    except BaseException as failed:  # noqa: BLE001 - __str__ is code of the exception's own
        return f"<its __str__ raised {type(failed).__name__}>"


def formatted(error: BaseException) -> str:
    """The traceback with all causes, as Python prints it."""
    try:
        return _short("".join(traceback.format_exception(error)))
    except BaseException as failed:  # noqa: BLE001 - formatting calls __str__ and __repr__
        frames = "".join(traceback.format_tb(error.__traceback__))
        told = f"{type_name(error)}: <formatting it raised {type(failed).__name__}>"
        return _short(f"Traceback (most recent call last):\n{frames}{told}\n")


def pickle_that_works(error: BaseException) -> bytes:
    """The pickle of an exception, if it can be made again from it here; else nothing."""
    try:
        data = pickle.dumps(error, protocol=pickle.HIGHEST_PROTOCOL)
        again = pickle.loads(data) if len(data) <= PICKLE_BYTES_MAX else None
    except BaseException:  # noqa: BLE001 - __reduce__ and __init__ are code of its own
        return b""
    same = type(again) is type(error) and message(again) == message(error)
    return data if same else b""


def _notes(error: BaseException) -> tuple[str, ...]:
    notes: Any = getattr(error, "__notes__", ())
    if not isinstance(notes, list | tuple):
        return ()
    return tuple(_short(note) for note in notes[:NOTES_MAX] if isinstance(note, str))


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and len(found) < CHAIN_MAX:
        suppressed = one.__cause__ is None and one.__suppress_context__
        one = None if suppressed else one.__cause__ or one.__context__
        if one is not None:
            found.append(one)
    return found


def _short(text: str) -> str:
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = TEXT_CHARS_MAX // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
