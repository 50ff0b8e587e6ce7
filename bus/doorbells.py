"""The doorbell semaphores of a bus, found by their names in /dev/shm."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import posix_ipc

from bus.directory import SHARED_MEMORY


def doorbells(bus_id_hex: str) -> Iterator[str]:
    """The names of all doorbells of a bus that exist now, as posix_ipc takes them.

    What another user has put under such a name is none.
    """
    prefix = f"sem.bus-{bus_id_hex}-"
    for name in os.listdir(SHARED_MEMORY):
        if name.startswith(prefix) and _is_ours(SHARED_MEMORY / name):
            yield "/" + name.removeprefix("sem.")


def _is_ours(path: Path) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def unlink_doorbells(bus_id_hex: str) -> None:
    """Removes every doorbell of a bus. Whoever waits on one is told at its next wait."""
    for name in list(doorbells(bus_id_hex)):
        with suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(name)
