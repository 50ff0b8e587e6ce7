"""Which bus a directory is: bus.json, kept twice, written once by whoever comes first.

Every segment and every offset table carries the bus id as well, so a bus whose bus.json and copy
are both gone is told by them. A new id would make all of them files of another bus.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from bus import files, traces, twofold
from bus.errors import CorruptSegmentError, DirectoryError, UnsupportedVersionError

#: of bus.json; another number means another layout of the directory
FORMAT: Final = 1
BUS_FILE: Final = "bus.json"
#: bus.json is linked into place by whoever is first: its temporary name may still be there
_LINKS_MAX: Final = 2


def read_id(fd: int, path: Path) -> tuple[int, str]:
    """The bus id, and why its copy had to answer ("" if it did not).

    Raises DirectoryError if there is no bus, CorruptSegmentError if both files are damaged, and
    UnsupportedVersionError.
    """
    _check_format(fd, path)
    kept = twofold.read(fd, BUS_FILE, BUS_FILE, links_max=_LINKS_MAX)
    if kept.value is None and traces.are_there(fd):
        raise CorruptSegmentError(
            f"{path} holds a bus whose {BUS_FILE} is missing, and its copy too; a broker makes them"
            f" anew from the segments: bus serve {path}"
        )
    if kept.value is None:
        raise DirectoryError(
            f"{path} holds no bus (no {BUS_FILE}); start one with: bus serve {path}"
        )
    return _hexadecimal(kept.value.get("bus_id"), path / BUS_FILE), kept.trouble


def ensure(fd: int, path: Path, now: str) -> str:
    """Make bus.json unless it is there; says what was lost and made anew, "" if nothing was.

    Raises CorruptSegmentError if it is lost and nothing else says which bus this is.
    """
    _check_format(fd, path)
    try:
        kept = twofold.read(fd, BUS_FILE, BUS_FILE, links_max=_LINKS_MAX)
    except CorruptSegmentError as error:
        return _rebuild(fd, path, now, error)
    if kept.value is not None:
        return ""
    if traces.are_there(fd):
        missing = CorruptSegmentError(f"{path / BUS_FILE} is missing, and its copy too")
        return _rebuild(fd, path, now, missing)
    renew(fd, now)
    return ""


def renew(fd: int, now: str) -> None:
    """Give the bus another id, unless bus.json is there."""
    twofold.write_new(fd, BUS_FILE, _content(os.urandom(8).hex(), now), BUS_FILE)


def mend(fd: int) -> str | None:
    """As `twofold.mend`."""
    return twofold.mend(fd, BUS_FILE, BUS_FILE, links_max=_LINKS_MAX)


def _rebuild(fd: int, path: Path, now: str, error: CorruptSegmentError) -> str:
    """Two processes at once write the same."""
    ids = traces.bus_ids(path)
    if len(ids) > 1:
        raise CorruptSegmentError(
            f"{error}; its files are of several buses ({', '.join(sorted(ids))}): move those that"
            " do not belong here away"
        ) from error
    if not ids:
        raise error  # nothing is stored that could tell
    [bus_id] = ids
    twofold.write(fd, BUS_FILE, _content(bus_id, now), BUS_FILE)
    return f"{error}; it was made anew with the bus id {bus_id}, which the segments and groups have"


def _content(bus_id: str, now: str) -> dict[str, Any]:
    return {"format": FORMAT, "bus_id": bus_id, "created": now}


def _check_format(fd: int, path: Path) -> None:
    """A file that says another format need not have a checksum that this version knows."""
    try:
        content = files.read_json(fd, BUS_FILE, links_max=_LINKS_MAX)
    except CorruptSegmentError:
        return  # perhaps its copy is good
    if content is not None and content.get("format") != FORMAT and "crc" not in content:
        raise UnsupportedVersionError(
            f"{path / BUS_FILE} has format {content.get('format')!r}, this version of bus"
            f" reads {FORMAT}; use the version that wrote it, or another directory"
        )


def _hexadecimal(text: object, path: Path) -> int:
    if isinstance(text, str) and re.fullmatch(r"[0-9a-f]{16}", text):
        return int(text, 16)
    raise CorruptSegmentError(f"{path}: 'bus_id' must be 16 hexadecimal digits, not {text!r}")
