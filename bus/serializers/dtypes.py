"""A numpy dtype as text and back, without eval and without pickle.

    "<f8", "|S5", "<M8[ns]"                        a simple dtype, by numpy's own name for it
    ["<f4", [3, 2]]                                an array of them in each element
    {"names": […], "formats": […], "offsets": […], "itemsize": 16}      a structured dtype; with
                                                       "titles" if a field has one

as JSON. Text that comes from others is checked before numpy sees it.
"""

import json
import re
from functools import lru_cache
from typing import Any, Final

import numpy

from bus.errors import SerializationError

#: bytes of a dtype as text, dtypes within each other, and how many descriptions are kept
TEXT_BYTES_MAX: Final = 32_768
DEPTH_MAX: Final = 16
KEPT_MAX: Final = 256
#: an element, and each of its numbers, is below that: numpy counts in C's int
SIZE_MAX: Final = (1 << 31) - 1

_SIMPLE: Final = re.compile(
    r"[<>|=](?:[biufcSUV][0-9]{1,10}|[mM]8(?:\[[0-9]{0,9}[a-zA-Z]{1,2}\])?)", re.ASCII
)


@lru_cache(KEPT_MAX)
def text_of(dtype: "numpy.dtype[Any]") -> bytes:
    """The dtype as text. Raises SerializationError if its elements are no plain bytes."""
    if dtype.hasobject:
        raise SerializationError(
            f"an array of dtype {dtype} holds Python objects; convert it, or use Pickle()"
        )
    text = json.dumps(_described(dtype), separators=(",", ":")).encode()
    if len(text) > TEXT_BYTES_MAX:
        raise SerializationError(f"dtype {dtype} takes more than {TEXT_BYTES_MAX} bytes as text")
    if dtype_of(text) != dtype:
        raise SerializationError(f"dtype {dtype} cannot be told in words; convert the array")
    return text


@lru_cache(KEPT_MAX)
def dtype_of(text: bytes) -> "numpy.dtype[Any]":
    """The dtype with that text. Raises SerializationError for anything else."""
    try:
        return _made(json.loads(text), DEPTH_MAX)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise SerializationError(f"no dtype is described by {text[:80]!r}: {error}") from error


def _described(dtype: "numpy.dtype[Any]") -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_described(base), list(shape)]
    if dtype.fields is None:
        return dtype.str
    names = list(dtype.names or ())
    fields = [dtype.fields[name] for name in names]
    described: dict[str, Any] = {
        "names": names,
        "formats": [_described(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    if any(len(field) > 2 for field in fields):
        described["titles"] = [field[2] if len(field) > 2 else None for field in fields]
    return described


def _made(text: Any, depth: int) -> "numpy.dtype[Any]":
    if depth == 0:
        raise ValueError(f"more than {DEPTH_MAX} dtypes within each other")
    if isinstance(text, str) and _SIMPLE.fullmatch(text):
        return _sized(numpy.dtype(text))
    if isinstance(text, list) and len(text) == 2 and isinstance(text[1], list):
        shape = tuple(_number(size) for size in text[1])
        return _sized(numpy.dtype((_made(text[0], depth - 1), shape)))
    if not isinstance(text, dict):
        raise ValueError(f"{str(text)[:40]!r} is no dtype")
    fields: dict[str, Any] = {
        "names": [_name(name) for name in text["names"]],
        "formats": [_made(format, depth - 1) for format in text["formats"]],
        "offsets": [_number(offset) for offset in text["offsets"]],
        "itemsize": _number(text["itemsize"]),
    }
    if "titles" in text:
        fields["titles"] = [None if title is None else _name(title) for title in text["titles"]]
    return _sized(numpy.dtype(fields))  # type: ignore[call-overload]


def _sized(dtype: "numpy.dtype[Any]") -> "numpy.dtype[Any]":
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return dtype


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no name of a field")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SIZE_MAX:
        raise ValueError(f"{value!r} is not a number of bytes or elements")
    return value
