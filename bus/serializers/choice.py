"""What a program may give as a serializer: a function, a format, or a format's name."""

from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import bus.serializers
from bus.config import nearest
from bus.errors import BusConfigurationError
from bus.native.core import InPlace, Parts

FormatName = Literal["json", "msgpack", "numpy", "arrow"]


class Serializer(Protocol):
    """A format that writes."""

    def serialize(self, value: Any, /) -> "bytes | bytearray | memoryview | Parts":
        """The value's bytes. Raises SerializationError."""


class Deserializer(Protocol):
    """A format that reads."""

    def deserialize(self, data: Any, /) -> Any:
        """The value of these bytes. Raises SerializationError."""


SerializerOption = Serializer | Callable[[Any], Any] | FormatName | None
DeserializerOption = Deserializer | Callable[[bytes], Any] | FormatName | None

_CLASSES: Final = {"json": "Json", "msgpack": "MessagePack", "numpy": "Numpy", "arrow": "Arrow"}
_NO_PICKLE: Final = (
    "pickle has no name: whoever may write to the topic can make its readers run any code; if you"
    " trust them all, say bus.serializers.Pickle()"
)


def value_serializer(option: SerializerOption) -> Callable[[Any], Any] | None:
    """The function that turns a value into bytes or parts."""
    return _function("value_serializer", option, "serialize")


def key_serializer(option: SerializerOption) -> Callable[[Any], Any] | None:
    """The function that turns a key into bytes."""
    serialize = _function("key_serializer", option, "serialize")
    return serialize if serialize is None or serialize is option else _Joined(serialize)


def value_deserializer(option: DeserializerOption) -> Callable[[Any], Any] | None:
    """The function that makes a value of its bytes, or of a view of them."""
    deserialize = _function("value_deserializer", option, "deserialize")
    if deserialize is None or not getattr(_format(option), "in_place", False):
        return deserialize
    return InPlace(deserialize)


def key_deserializer(option: DeserializerOption) -> Callable[[bytes], Any] | None:
    """The function that makes a key of its bytes."""
    return _function("key_deserializer", option, "deserialize")


class _Joined:
    """Serializes keys, which are in one piece: a partition is chosen by their bytes."""

    def __init__(self, serialize: Callable[[Any], Any]) -> None:
        self._serialize = serialize

    def __call__(self, key: Any) -> Any:
        made = self._serialize(key)
        return made.join() if isinstance(made, Parts) else made


def _function(what: str, option: Any, method: str) -> Callable[[Any], Any] | None:
    found: Any = _format(option)
    if isinstance(found, type) and hasattr(found, method):
        raise BusConfigurationError(f"{what} is a class; give it an instance: {found.__name__}()")
    bound = getattr(found, method, found)
    if bound is not None and not callable(bound):
        raise BusConfigurationError(
            f"{what} must be a function, the name of a format, or an object with {method}(), not"
            f" {type(option).__name__}"
        )
    return bound  # type: ignore[no-any-return]


def _format(option: Any) -> Any:
    """The format with that name; anything but a name as it is."""
    if not isinstance(option, str):
        return option
    if option == "pickle":
        raise BusConfigurationError(_NO_PICKLE)
    if option not in _CLASSES:
        raise BusConfigurationError(f"no format is named {option!r}; {nearest(option, _CLASSES)}")
    return getattr(bus.serializers, _CLASSES[option])()
