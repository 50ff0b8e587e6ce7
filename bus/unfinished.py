"""Tables of groups while the broker makes them in the hot directory: nobody sees half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from bus import files

_PREFIX: Final = ".new-"


@contextmanager
def new_table(hot_fd: int, name: str, size: int) -> Iterator[int]:
    """A file of zeros, fully allocated, that gets its name at the end of the block.

    It takes the place of one that has the name. Raises NoSpaceError, DirectoryError.
    """
    temporary = _PREFIX + name
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=hot_fd)  # of a broker that died here
    fd = files.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=hot_fd)
    try:
        files.allocate(fd, size)
        yield fd
        os.rename(temporary, name, src_dir_fd=hot_fd, dst_dir_fd=hot_fd)
    finally:
        os.close(fd)


def remove_unfinished(hot_fd: int) -> None:
    """Remove the tables that a broker was making when it died."""
    for name in os.listdir(hot_fd):
        if name.startswith(_PREFIX):
            os.unlink(name, dir_fd=hot_fd)
