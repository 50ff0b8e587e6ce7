"""Ways to harm a file of the bus: what disks, programs and people do to files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bus.durable import DATA_START
from bus.native.core import LAYOUT, parse_header

FRAME_BYTES: Final = LAYOUT["sizeof.bus_frame"]

Harm = Callable[[Path], None]


def flip(path: Path, at: int) -> None:
    """Turns a bit over, through the file: whoever has it mapped sees it."""
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        before = file.read(1)
        file.seek(at)
        file.write(bytes([before[0] ^ 0x10]))


def place_of(path: Path, value: bytes) -> int:
    """Where that value stands in the file."""
    return path.read_bytes().index(value)


def flip_value(path: Path) -> None:
    """In the middle of the records, in a value."""
    data = path.read_bytes()
    end = parse_header(data).end_position or len(data.rstrip(b"\0"))
    at = DATA_START + (end - DATA_START) // 2
    flip(path, data.index(b"value", at))


def flip_frame(path: Path) -> None:
    """The size of the first frame."""
    flip(path, DATA_START)


def flip_header(path: Path) -> None:
    flip(path, LAYOUT["bus_segment.base_offset"])


def flip_magic(path: Path) -> None:
    flip(path, 0)


def flip_index(path: Path) -> None:
    """The position of the first entry that there is; of the first of all if there is none."""
    data = path.read_bytes()
    start, size = LAYOUT["bus_segment.index"], LAYOUT["sizeof.bus_index_entry"]
    entries = range(start, DATA_START, size)
    flip(path, next((at for at in entries if any(data[at : at + 4])), start))


def flip_seal(path: Path) -> None:
    flip(path, LAYOUT["bus_segment.end_offset"])


def cut_in_records(path: Path) -> None:
    os.truncate(path, DATA_START + 500)


def cut_all(path: Path) -> None:
    os.truncate(path, 0)


def delete(path: Path) -> None:
    path.unlink()


def zero(path: Path) -> None:
    """Other bytes, the same file."""
    size = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        file.write(bytes(size))


def replace_by_zeros(path: Path) -> None:
    """Another file under its name."""
    _put_in_place(path, bytes(path.stat().st_size))


def replace_by_its_copy(path: Path) -> None:
    """The same bytes in another file, as a restore from a backup makes it."""
    _put_in_place(path, path.read_bytes())


def replace_by_another(path: Path) -> None:
    """A sound segment, but not this one."""
    other = next(file for file in sorted(path.parent.glob("*" + path.suffix)) if file != path)
    _put_in_place(path, other.read_bytes())


def replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def remove(path: Path) -> None:
    """Whatever has that name."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put_in_place(path: Path, data: bytes) -> None:
    new = path.with_name("harm.tmp")
    new.write_bytes(data)
    new.chmod(0o600)
    new.rename(path)


SEGMENT_HARM: Final[dict[str, Harm]] = {
    "value": flip_value,
    "frame": flip_frame,
    "header": flip_header,
    "magic": flip_magic,
    "index": flip_index,
    "seal": flip_seal,
    "cut": cut_in_records,
    "emptied": cut_all,
    "deleted": delete,
    "zeroed": zero,
    "zeros": replace_by_zeros,
    "another": replace_by_another,
    "directory": replace_by_a_directory,
}
