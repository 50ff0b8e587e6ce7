"""Small files of truth, each kept twice: NAME, and NAME.copy beside it.

    {"next_id": 7, "crc": "1c291ca3"}

The checksum covers the other values and a seal, which names the bus and the file's place in it: a
file of another bus, or of another topic, is as good as damaged. The file counts if it verifies,
else its copy; a file that is in neither place was never written.

Guarantees: when `write` returns, both are on disk. The file is replaced before the copy, so a
death in between leaves the copy as it was before a change that nobody was told of.
"""

import json
import os
import zlib
from contextlib import suppress
from typing import Any, Final, NamedTuple

from bus import files
from bus.errors import CorruptSegmentError

COPY_SUFFIX: Final = ".copy"
_CRC: Final = "crc"


class Mend(NamedTuple):
    """What was made whole, and from what; `lost`: not all of it came back."""

    text: str
    lost: bool = False


class Kept(NamedTuple):
    """What a file says; None if it was never written.

    `trouble` says why the copy had to answer for the file, "" if it did not; `copy_trouble` the
    same of the copy.
    """

    value: dict[str, Any] | None
    trouble: str = ""
    copy_trouble: str = ""


def encode(value: dict[str, Any], seal: str) -> bytes:
    """The bytes of a file that says `value`."""
    values = {key: one for key, one in value.items() if key != _CRC}
    return (json.dumps({**values, _CRC: _checksum(values, seal)}, indent=1) + "\n").encode()


def decode(data: bytes, seal: str) -> dict[str, Any]:
    """What a file says. Raises ValueError with the reason if it does not verify."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, no object")
    stored = value.pop(_CRC, None)
    if stored != _checksum(value, seal):
        raise ValueError(f"its checksum is {stored!r}, expected {_checksum(value, seal)!r}")
    return value


def _checksum(values: dict[str, Any], seal: str) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32((seal + text).encode()):08x}"


def read(dir_fd: int, name: str, seal: str, *, links_max: int = 1) -> Kept:
    """The file's value, or its copy's.

    Raises CorruptSegmentError if neither verifies and they are not both missing, and
    UnsafeDirectoryError for what is no file of ours.
    """
    value, trouble = _load(dir_fd, name, seal, links_max)
    copy, copy_trouble = _load(dir_fd, name + COPY_SUFFIX, seal, 1)
    if value is not None:
        # A copy that is missing or behind: its writer died, which harms nothing.
        return Kept(value, "", copy_trouble)
    if copy is not None:
        return Kept(copy, trouble or "it is missing")
    if not trouble and not copy_trouble:
        return Kept(None)
    path = os.path.join(files.path_of(dir_fd), name)
    raise CorruptSegmentError(
        f"{path} is damaged ({trouble or 'it is missing'}), and {COPY_SUFFIX} beside it does not"
        f" help ({copy_trouble or 'it is missing'}); restore one of the two from a backup, or run:"
        " bus check --repair"
    )


def _load(dir_fd: int, name: str, seal: str, links_max: int) -> tuple[dict[str, Any] | None, str]:
    """(value, "") or (None, the reason); (None, "") if there is no such file."""
    try:
        data = files.read_bytes(dir_fd, name, links_max=links_max)
        return (None if data is None else decode(data, seal)), ""
    except (ValueError, RecursionError, CorruptSegmentError) as error:
        return None, str(error)


def write(
    dir_fd: int, name: str, value: dict[str, Any], seal: str, *, durable: bool = True
) -> None:
    """Replace the file, then its copy."""
    data = encode(value, seal)
    files.write_atomic(dir_fd, name, data, durable=durable)
    files.write_atomic(dir_fd, name + COPY_SUFFIX, data, durable=durable)


def write_new(dir_fd: int, name: str, value: dict[str, Any], seal: str) -> bool:
    """Make the file and its copy, unless the file is there: then False."""
    data = encode(value, seal)
    if not files.write_new(dir_fd, name, data):
        return False
    files.write_atomic(dir_fd, name + COPY_SUFFIX, data)
    return True


def remove(dir_fd: int, name: str) -> None:
    """Unlink both, the copy first: alone it would be taken for the file."""
    unlink(dir_fd, name + COPY_SUFFIX)
    unlink(dir_fd, name)


def unlink(dir_fd: int, name: str) -> None:
    """Unlink a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)


def mend(dir_fd: int, name: str, seal: str, *, links_max: int = 1) -> str | None:
    """Make both good again if one is, and say what was wrong; None if nothing was.

    The caller is the only writer. Raises as `read` does.
    """
    kept = read(dir_fd, name, seal, links_max=links_max)
    if kept.value is None:
        return None
    path = os.path.join(files.path_of(dir_fd), name)
    data = encode(kept.value, seal)
    if kept.trouble:
        files.write_atomic(dir_fd, name, data)
        return f"{path} was restored from its copy: {kept.trouble}"
    with_copy = files.read_bytes(dir_fd, name + COPY_SUFFIX)
    if with_copy != data:
        files.write_atomic(dir_fd, name + COPY_SUFFIX, data)
    if with_copy is None or kept.copy_trouble:
        trouble = kept.copy_trouble or "it was missing"
        return f"{path}{COPY_SUFFIX} was made anew from the file: {trouble}"
    return None
