"""The doorbell semaphores of a bus, found by their names in /dev/shm."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bus.directory import SHARED_MEMORY
from bus.liveness import bell_path


def doorbells(bus_id_hex: str) -> Iterator[str]:
    """The names of all doorbells of a bus that exist now, with a slash in front.

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


def unlink_doorbells(bus_id_hex: str, *, but_of: int | None = None) -> None:
    """Removes every doorbell of a bus. Whoever waits on one is told at its next wait.

    `but_of`: those of the hot directory with this id stay.
    """
    kept = None if but_of is None else f"/bus-{bus_id_hex}-{but_of:016x}-"
    for name in list(doorbells(bus_id_hex)):
        if kept is not None and name.startswith(kept):
            continue
        with suppress(FileNotFoundError):
            os.unlink(bell_path(name))
