"""The file of a group's members table: its name, and how the broker makes it."""

import os
import struct
from contextlib import suppress
from typing import Final

from bus import files
from bus.native.core import LAYOUT, Table

BYTES: Final = LAYOUT["sizeof.bus_members"]
MAGIC: Final = LAYOUT["BUS_MAGIC_MEMBERS"]
VERSION: Final = LAYOUT["BUS_LAYOUT_VERSION"]
_UNFINISHED: Final = ".new-"


def members_file_name(group_id: int) -> str:
    """Name of the members table in the hot directory."""
    return f"group-{group_id}.ctl"


def create_members_file(hot_fd: int, *, bus_id: int, group_id: int) -> None:
    """Make an empty members table, in place of an old one if there is one (the broker does)."""
    name = members_file_name(group_id)
    temporary = _UNFINISHED + name
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=hot_fd)  # of a broker that died here
    fd = files.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=hot_fd)
    try:
        files.allocate(fd, BYTES)
        table = Table(fd, BYTES, mutex_at=LAYOUT["bus_members.lock"])
        table.create_mutex()
        identity = struct.pack("<QIIQQQ", MAGIC, VERSION, BYTES, bus_id, group_id, 1)
        table.view[: len(identity)] = identity
        os.rename(temporary, name, src_dir_fd=hot_fd, dst_dir_fd=hot_fd)
    finally:
        os.close(fd)


def remove_unfinished(hot_fd: int) -> None:
    """Remove the tables that a broker was making when it died."""
    for name in os.listdir(hot_fd):
        if name.startswith(_UNFINISHED):
            os.unlink(name, dir_fd=hot_fd)
