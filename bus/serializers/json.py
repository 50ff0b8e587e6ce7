"""Values as JSON text in UTF-8 (RFC 8259)."""

import json
from typing import Any

from bus.errors import SerializationError


class Json:
    """dict, list, str, int, float, bool and None, as JSON.

    Tuples come back as lists, keys of a dict as str. NaN and infinities are refused, for JSON has
    none. A value None is a null record, which no format sees.
    """

    def serialize(self, value: Any) -> bytes:
        """UTF-8 without spaces. Raises SerializationError."""
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                f"{type(value).__name__} cannot be written as JSON: {error}"
            ) from error

    def deserialize(self, data: bytes) -> Any:
        """The value. Raises SerializationError for what is not JSON in UTF-8."""
        try:
            return json.loads(str(data, "utf-8"))
        except (ValueError, RecursionError) as error:
            raise SerializationError(f"this is not JSON: {error}") from error
