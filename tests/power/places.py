"""Where disks that forget are kept: in RAM, under a name that says whose they are."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.tools import tool

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "bus-power-"


@contextmanager
def memory_place() -> Iterator[Path]:
    """An empty directory in RAM, gone with the block; so is what a killed test left before."""
    sweep()
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=SHARED_MEMORY))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def sweep() -> None:
    """Remove the places of processes that are not alive any more."""
    for place in SHARED_MEMORY.glob(f"{PREFIX}*"):
        pid = place.name.removeprefix(PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            _unmount_below(place)
            with suppress(FileNotFoundError):  # another test run sweeps as well
                shutil.rmtree(place)


def _unmount_below(place: Path) -> None:
    """Filesystems and loop devices of a killed run; a loop device without a user is freed."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([one for one in mounts if one.startswith(f"{place}/")]):
        subprocess.run(["umount", "--lazy", mount], check=False)
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if backing.read_text().startswith(f"{place}/"):
            device = f"/dev/{backing.parent.parent.name}"
            subprocess.run([tool("losetup"), "--detach", device], check=False)
