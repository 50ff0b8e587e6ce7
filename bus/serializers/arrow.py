"""Values as Arrow record batches, in Arrow's own stream format (IPC): read in place.

    offset  0        4        5       64
            | "BUSA" | kind   | zeros | schema, batches and end, as in any Arrow stream

`kind` is 1 for a record batch and 2 for a table. Every buffer begins on a multiple of 64: see
arrow_stream.py. pyarrow hands out the buffers of a batch as they are, so the one copy is that into
the log. Of a batch that is a slice of a larger one, pyarrow makes anew the bitmaps that do not
begin at a full byte, and the offsets of texts and lists: these are copied twice.
"""

from typing import Any, Final

from bus.errors import SerializationError
from bus.native.core import Parts
from bus.serializers.arrow_stream import laid_out
from bus.serializers.missing import missing_library

try:
    import pyarrow
    from pyarrow import ipc
except ImportError as missing:
    raise missing_library("pyarrow", "arrow") from missing

MAGIC: Final = b"BUSA"
BATCH: Final = 1
TABLE: Final = 2
HEADER_BYTES: Final = 64


class Arrow:
    """A pyarrow.RecordBatch, or a pyarrow.Table as a stream of its batches.

    The consumer's batches lie in the log, and cannot be written to, as no Arrow data can.

    validate: check all that is in a batch when it is read, lengths, offsets, UTF-8, which looks at
        each value of a column of text. Without, a value that somebody forged may make pyarrow read
        what is not there, which ends the process.
    """

    #: `deserialize` takes a view of the record and refers to it
    in_place = True

    def __init__(self, *, validate: bool = True) -> None:
        self.validate = validate

    def serialize(self, value: Any) -> Parts:
        """A stream of batches. Raises SerializationError for anything but a batch or a table."""
        if isinstance(value, pyarrow.RecordBatch):
            kind = BATCH
        elif isinstance(value, pyarrow.Table):
            kind = TABLE
        else:
            raise SerializationError(
                f"the value must be a pyarrow RecordBatch or Table, not {type(value).__name__}"
            )
        sink = _Sink()
        try:
            with ipc.new_stream(sink, value.schema) as stream:
                stream.write(value)
        except pyarrow.ArrowException as error:
            raise SerializationError(
                f"pyarrow cannot write this {value.schema}: {error}"
            ) from error
        return Parts([(MAGIC + bytes([kind])).ljust(HEADER_BYTES, b"\0"), *laid_out(sink.pieces)])

    def deserialize(self, data: "bytes | memoryview") -> Any:
        """The RecordBatch or the Table. Raises SerializationError."""
        if len(data) < HEADER_BYTES or data[:4] != MAGIC or data[4] not in (BATCH, TABLE):
            raise SerializationError("this value was not written by Arrow()")
        try:
            with ipc.open_stream(pyarrow.py_buffer(data).slice(HEADER_BYTES)) as stream:
                table = stream.read_all() if data[4] == TABLE else stream.read_next_batch()
            if self.validate:
                table.validate(full=True)
                _ = table.schema.names  # must be UTF-8 as well
        except (pyarrow.ArrowException, OSError, StopIteration, ValueError) as error:
            raise SerializationError(f"this is no stream of Arrow batches: {error!r}") from error
        return table


class _Sink:
    """A file for pyarrow to write to, that keeps what it is given: no byte is copied."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.closed = False
        self._size = 0

    def write(self, data: Any) -> int:
        self.pieces.append(data)
        size = len(data) if isinstance(data, bytes) else int(data.size)
        self._size += size
        return size

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing waits anywhere."""

    def close(self) -> None:
        self.closed = True
