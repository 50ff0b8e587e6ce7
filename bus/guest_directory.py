"""Another user's bus directory, as a guest has it open, and a page in the place of its bus.ctl."""

import os
from pathlib import Path

from bus.address import GUESTS_SOCKET
from bus.attachment import CONTROL_FILE_BYTES
from bus.directory import BusDirectory
from bus.native.core import Table


class GuestDirectory(BusDirectory):
    """Another user's bus directory: it can be entered, and nothing in it but a socket opened."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        super().__init__(path, fd)
        self.owner = os.fstat(fd).st_uid

    def _read_bus_id(self) -> int:
        return 0

    @property
    def guests_path(self) -> str:
        """The gateway's socket by a path that is short enough."""
        return f"/proc/self/fd/{self.fd}/{GUESTS_SOCKET}"


def own_page() -> Table:
    """Memory of the size of bus.ctl, all zero."""
    fd = os.memfd_create("bus-guest", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, CONTROL_FILE_BYTES)
        return Table(fd, CONTROL_FILE_BYTES)
    finally:
        os.close(fd)
