"""A segment file as values for people and machines: header, index and frames, in file order.

Works on hot and durable segments, of a running or a stopped bus, without a broker. Walking ends
at the end frame or at the first frame that is not valid: in a segment that is still being
written, that is simply where it ends today.
"""

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bus.check.damage import Findings
from bus.check.files import mapped
from bus.check.segment import Expected, check_header, index_entries
from bus.errors import CorruptSegmentError, DirectoryError
from bus.frames import (
    DATA_START,
    TYPE_CONTROL,
    TYPE_END,
    TYPE_PAD,
    TYPE_RECORD,
    Frame,
    InvalidFrameError,
    read_frame,
)

_TYPE_NAMES = {TYPE_RECORD: "record", TYPE_PAD: "pad", TYPE_END: "end", TYPE_CONTROL: "control"}


@dataclass(frozen=True, slots=True)
class End:
    """Where a dump ended, the next offset, and why: "end frame", "limit" or what is invalid."""

    position: int
    next_offset: int
    reason: str


def dump_segment(
    path: Path, *, index: bool = False, values: bool = True, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield {"segment": …}, {"index": …}s if asked for, {"frame": …}s, and last {"end": …}.

    `values`: show keys, values and headers too, as text if they are UTF-8, else as base64.
    `limit`: frames at most. Raises DirectoryError if the file cannot be read and
    CorruptSegmentError if its header says that it is no segment of this version.
    """
    try:
        with mapped(path) as data:
            header = _header(data, path)
            yield {"segment": header}
            if index:
                for entry in index_entries(data, header["bytes"], Findings(str(path))):
                    yield {"index": _index_entry(*entry, header)}
            yield from _frames(data, header, values, limit)
    except OSError as error:
        raise DirectoryError(f"{path} cannot be read: {error.strerror}") from error


def _header(data: memoryview, path: Path) -> dict[str, int]:
    findings = Findings(str(path))
    header = check_header(data, Expected(0, 0, 0), findings)
    if header is None:
        raise CorruptSegmentError("; ".join(str(damage) for damage in findings.damages))
    return header


def _index_entry(
    at: int, position: int, relative: int, timestamp: int, header: dict[str, int]
) -> dict[str, int]:
    return {
        "at": at,
        "position": position,
        "offset": header["base_offset"] + relative,
        "max_timestamp": timestamp,
    }


def _frames(
    data: memoryview, header: dict[str, int], values: bool, limit: int | None
) -> Iterator[dict[str, Any]]:
    position, next_offset, shown = DATA_START, header["base_offset"], 0
    reason = "the end of the file"
    while position < len(data):
        if shown == limit:
            reason = f"limit of {limit} frames"
            break
        try:
            frame = read_frame(data, position, len(data), header["seed"])
        except InvalidFrameError as error:
            reason = f"no valid frame here: {error.reason}"
            break
        shown += 1
        yield {"frame": describe_frame(frame, data if values else None)}
        if frame.type == TYPE_END:
            reason = "end frame"
            break
        next_offset = frame.offset + 1 if frame.carries_offset else next_offset
        position += frame.size
    yield {"end": asdict(End(position, next_offset, reason))}


def describe_frame(frame: Frame, data: memoryview | None) -> dict[str, Any]:
    """A frame's fields by name; with `data`, the segment's bytes, its contents too."""
    shown: dict[str, Any] = {"type": _TYPE_NAMES[frame.type], **frame._asdict()}
    if frame.type == TYPE_END:
        shown["next_segment"] = frame.producer
    if data is None or not frame.carries_offset:
        return shown
    key = data[frame.key_at : frame.key_at + frame.key_length]
    value = data[frame.value_at : frame.value_at + frame.value_length]
    shown |= as_text("key", None if frame.null_key else bytes(key))
    shown |= as_text("value", None if frame.null_value else bytes(value))
    headers_at = frame.key_at + frame.key_length
    if frame.headers_length:
        shown |= as_text("headers", bytes(data[headers_at : headers_at + frame.headers_length]))
    return shown


def as_text(name: str, content: bytes | None) -> dict[str, str | None]:
    """{name: text}; for bytes that are no UTF-8, {name_base64: …}. None stays None."""
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
