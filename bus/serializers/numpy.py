"""Values as numpy arrays: written with one copy, read with none.

    offset  0        4        5        6        7        8            16
            | "BUSN" | version| order  | dims   | zero   | dtype bytes | shape: dims × 8 bytes
            | dtype as text (dtypes.py), zeros up to a multiple of 64, the array's bytes

Little-endian. `order` is 0 for rows first (C) and 1 for columns first (Fortran). An array is valid
if and only if its bytes are as many as shape and dtype say, to the last one of the value.
"""

import math
import struct
from typing import Any, Final

from bus.errors import SerializationError
from bus.native.core import Parts
from bus.serializers.missing import missing_library

try:
    import numpy
except ImportError as missing:
    raise missing_library("numpy", "numpy") from missing

from bus.serializers.dtypes import TEXT_BYTES_MAX, dtype_of, text_of

MAGIC: Final = b"BUSN"
VERSION: Final = 1
#: numpy's own limit since 2.0
DIMENSIONS_MAX: Final = 64
#: numpy counts them in 63 bits; elements may take no bytes
ELEMENTS_MAX: Final = (1 << 63) - 1
ALIGN: Final = 64
_HEAD: Final = struct.Struct("<4sBBBxQ")

#: an array whose base is the record's memory: nothing may be written to it
Array = numpy.ndarray[Any, "numpy.dtype[Any]"]


class Numpy:
    """Arrays of any dtype without Python objects, of any shape.

    `send` copies the array once, straight into the log; if it is not contiguous, numpy copies it
    once more before that. It must not be written to while it is being sent. Subclasses are refused,
    because they carry more than their elements (a mask, say): send `numpy.asarray(it)`.

    The consumer's array is read-only, and lies in the log at a multiple of 64. `array.copy()` may
    be written to; a write to the array itself is numpy's "ValueError: assignment destination is
    read-only". Metadata of a dtype is not sent.
    """

    #: `deserialize` takes a view of the record and refers to it
    in_place = True

    def serialize(self, value: Any) -> Parts:
        """Header and array. Raises SerializationError for anything but a plain array."""
        if type(value) is not numpy.ndarray and type(value) is not numpy.memmap:
            raise SerializationError(
                f"the value must be a numpy array, not {type(value).__name__}; make it one with"
                " numpy.asarray()"
            )
        order = 1 if value.flags.fnc else 0
        rows: Array = value.T if order else numpy.ascontiguousarray(value)
        text = text_of(value.dtype)
        head = _HEAD.pack(MAGIC, VERSION, order, value.ndim, len(text))
        header = head + struct.pack(f"<{value.ndim}Q", *value.shape) + text
        if value.nbytes == 0:
            return Parts([header, b""])
        return Parts([header, rows.reshape(-1).view(numpy.uint8)])

    def deserialize(self, data: "bytes | memoryview") -> Array:
        """The array, read-only, in place. Raises SerializationError."""
        if len(data) < _HEAD.size or data[:4] != MAGIC:
            raise SerializationError("this value was not written by Numpy()")
        _, version, order, dimensions, text_bytes = _HEAD.unpack_from(data)
        if version != VERSION or order > 1:
            raise SerializationError(f"version {version} of Numpy()'s header is not known")
        text_at = _HEAD.size + 8 * dimensions
        begin = text_at + text_bytes
        if dimensions > DIMENSIONS_MAX or text_bytes > TEXT_BYTES_MAX or begin > len(data):
            raise SerializationError(f"an array's header does not fit its {len(data)} bytes")
        shape = struct.unpack_from(f"<{dimensions}Q", data, _HEAD.size)
        dtype = dtype_of(bytes(data[text_at:begin]))
        return _array(data, -(-begin // ALIGN) * ALIGN, shape, dtype, "F" if order else "C")


def _array(data: Any, begin: int, shape: Any, dtype: "numpy.dtype[Any]", order: Any) -> Array:
    elements = math.prod(shape)
    size = elements * dtype.itemsize
    if elements > ELEMENTS_MAX:
        raise SerializationError(f"no array has {elements} elements")
    if begin + size != len(data):
        raise SerializationError(
            f"an array of shape {shape} and dtype {dtype} takes {size} bytes, the value has"
            f" {len(data) - begin} for it"
        )
    try:
        return numpy.ndarray(shape, dtype, data, begin, order=order)
    except (ValueError, TypeError, MemoryError) as error:
        raise SerializationError(
            f"no array has shape {shape} and dtype {dtype}: {error}"
        ) from error
