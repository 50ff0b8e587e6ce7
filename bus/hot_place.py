"""Where a hot directory is, or is to be, and whose it is.

In RAM (`/dev/shm`), under a name made of the user and the bus id; beside a squatter; or in the bus
directory if RAM is short. `home` in it says which bus directory it belongs to: a copy of a bus
directory has the id of its original, and must not take its hot log over.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bus import files
from bus.directory import SHARED_MEMORY, BusDirectory, boot_id
from bus.errors import UnsafeDirectoryError
from bus.twofold import Mend

logger = logging.getLogger(__name__)

CONTROL_FILE: Final = "bus.ctl"
#: Says which bus directory the hot log belongs to.
HOME_FILE: Final = "home"

#: A smaller /dev/shm (a container's 64 MiB) cannot hold the ring of one busy partition.
SHARED_MEMORY_FREE_MIN: Final = 128 << 20


def find_last(directory: BusDirectory, wish: Path | None) -> tuple[Path, str] | None:
    """The hot directory of the last broker and the boot of which it is; None if there is none.

    If runtime.json and its copy are lost, it is looked for where it would be put: what is in RAM
    is of this boot.
    """
    runtime = directory.read_runtime()
    if runtime is not None:
        return Path(runtime.hot_dir), runtime.boot_id
    places = [directory.default_hot_path()]
    if wish is not None:
        places.append(choose_path(directory, wish))
    for path in places:
        if (path / CONTROL_FILE).exists() and _is_home(directory, path):
            lost = f"runtime.json and its copy are lost; {path} was found by its name"
            directory.mended.append(Mend(lost))
            return path, boot_id()
    return None


def _is_home(directory: BusDirectory, path: Path) -> bool:
    try:
        check_home(directory, path)
    except UnsafeDirectoryError:
        return False
    return True


def check_home(directory: BusDirectory, path: Path) -> None:
    """Raises UnsafeDirectoryError if a hot directory belongs to another bus directory.

    A copy of a bus directory has the id of its original, and would take its hot log away.
    """
    fd = files.open_directory_if_there(path)
    if fd is None:
        return
    try:
        text = files.read_bytes(fd, HOME_FILE)
    finally:
        os.close(fd)
    if text is None:
        return
    home = text.decode(errors="replace").rstrip("\n")
    if home.partition(" ")[0] != home_of(directory).partition(" ")[0]:
        raise UnsafeDirectoryError(
            f"{directory.path} is a copy of the bus in {home.partition(' ')[2]}, whose hot log is"
            f" in {path}; stop that bus first, or remove {path} if that bus is gone for good"
        )


def home_of(directory: BusDirectory) -> str:
    """Which directory a bus lives in: by its inode, so that it may be renamed; and its path."""
    status = os.fstat(directory.fd)
    return f"{status.st_dev}:{status.st_ino} {directory.path}"


def choose_path(directory: BusDirectory, wish: Path | None) -> Path:
    """Where a new hot directory goes: as wished, in RAM, or on disk if RAM is short."""
    if wish is not None:
        return Path(os.path.realpath(wish)) / f"bus-{directory.bus_id_hex}"
    free = _free_bytes(SHARED_MEMORY)
    if free >= SHARED_MEMORY_FREE_MIN:
        return directory.default_hot_path()
    path = directory.fallback_hot_path()
    logger.warning(
        "%s has %d MiB free, %d are needed; the hot log goes to %s, where writes are slower",
        SHARED_MEMORY,
        free >> 20,
        SHARED_MEMORY_FREE_MIN >> 20,
        path,
    )
    return path


def beside_squatter(path: Path) -> Path:
    """The path, or a random one beside it if another user has put something there.

    Everybody may make a directory in /dev/shm, and the name of a bus shows there while it runs.
    Clients find the hot directory by runtime.json, whatever its name is.
    """
    if not _is_foreign(path) or path.parent != SHARED_MEMORY:
        return path
    logger.warning("%s belongs to another user; a random name is used instead", path)
    return path.with_name(f"{path.name}-{os.urandom(8).hex()}")


def _is_foreign(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.lstat(path).st_uid != os.geteuid()
    return False


def _free_bytes(path: Path) -> int:
    try:
        status = os.statvfs(path)
    except FileNotFoundError:
        return 0
    return status.f_bavail * status.f_frsize
