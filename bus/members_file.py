"""The file of a group's members table: its name, and how the broker makes it."""

import struct
from typing import Final

from bus.native.core import LAYOUT, Table
from bus.unfinished import new_table

BYTES: Final = LAYOUT["sizeof.bus_members"]
MAGIC: Final = LAYOUT["BUS_MAGIC_MEMBERS"]
VERSION: Final = LAYOUT["BUS_LAYOUT_VERSION"]


def members_file_name(group_id: int) -> str:
    """Name of the members table in the hot directory."""
    return f"group-{group_id}.ctl"


def create_members_file(hot_fd: int, *, bus_id: int, group_id: int) -> None:
    """Make an empty members table, in place of an old one if there is one (the broker does)."""
    with new_table(hot_fd, members_file_name(group_id), BYTES) as fd:
        table = Table(fd, BYTES, mutex_at=LAYOUT["bus_members.lock"])
        table.create_mutex()
        identity = struct.pack("<QIIQQQ", MAGIC, VERSION, BYTES, bus_id, group_id, 1)
        table.view[: len(identity)] = identity
