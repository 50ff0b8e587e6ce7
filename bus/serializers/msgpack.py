"""Values as MessagePack: JSON's types and bytes, in fewer bytes."""

from typing import Any

from bus.errors import SerializationError
from bus.serializers.missing import missing_library

try:
    import msgpack
except ImportError as missing:
    raise missing_library("msgpack", "msgpack") from missing


class MessagePack:
    """dict, list, str, bytes, int of 64 bits, float, bool and None, as MessagePack.

    Tuples come back as lists. Keys of a dict may be of any of these types that can be hashed.
    """

    #: read from a view: what comes out is copied anyway
    in_place = True

    def serialize(self, value: Any) -> bytes:
        """The packed value. Raises SerializationError."""
        try:
            return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SerializationError(
                f"{type(value).__name__} cannot be written as MessagePack: {error}"
            ) from error

    def deserialize(self, data: bytes | memoryview) -> Any:
        """The value. Raises SerializationError for what is not one MessagePack object."""
        try:
            return msgpack.unpackb(data, raw=False, strict_map_key=False)
        except (TypeError, ValueError, RecursionError, msgpack.UnpackException) as error:
            raise SerializationError(f"this is not MessagePack: {error!r}") from error
