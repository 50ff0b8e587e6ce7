"""The hot directory: its place, its control file `bus.ctl`, its making and its removal.

    home              which bus directory this one belongs to: a copy of it must not take it over
    bus.ctl           clients, epoch, doorbell names; made under another name and renamed last, so
                      that a hot directory that has it is whole
    T-P.ctl           control page of partition P of the topic with id T
    T-P.SERIAL.seg    hot segment files
    group-ID.ctl      members of a consumer group

Flat and volatile: it lives in RAM and is rebuilt from the durable segments (`bus.recovery`). A
new broker adopts it when it is of this bus, this layout, this boot and this pid namespace.
"""

import logging
import os
import re
import shutil
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bus import __version__, files, salvage
from bus.canary import CANARY_BYTES
from bus.directory import (
    BusDirectory,
    Runtime,
    boot_id,
    pid_namespace,
    timestamp,
)
from bus.errors import DirectoryError, NamespaceError, UnsafeDirectoryError
from bus.hot_place import (
    CONTROL_FILE,
    HOME_FILE,
    beside_squatter,
    check_home,
    choose_path,
    find_last,
    home_of,
)
from bus.incidents import Incident, Incidents
from bus.liveness import any_locked
from bus.native.core import LAYOUT, Table

logger = logging.getLogger(__name__)

TEMPORARY_CONTROL_FILE: Final = "bus.ctl.tmp"
CONTROL_BYTES: Final = LAYOUT["sizeof.bus_control"]
#: The file: behind the table lie a moat and a canary, see bus/canary.py.
CONTROL_FILE_BYTES: Final = CONTROL_BYTES + CANARY_BYTES

#: What `stopping` says in bus.ctl: the bus ends, or goes on in another hot directory.
STOPPING: Final = 1
MOVING: Final = 2

_EPOCH: Final = LAYOUT["bus_control.epoch"]
_CATALOG_VERSION: Final = LAYOUT["bus_control.catalog_version"]
_BROKER_PID: Final = LAYOUT["bus_control.broker_pid"]
_STOPPING: Final = LAYOUT["bus_control.stopping"]
_IDENTITY: Final = struct.Struct("<QIIQQQ")  # the first fields of bus_control, in order

assert LAYOUT["bus_control.pid_namespace"] == 32


_OURS: Final = re.compile(r"^home$|\.ctl$|\.seg$|\.tmp$|\.ctl\.new$")


@dataclass(frozen=True, slots=True)
class HotIdentity:
    """The first fields of bus.ctl, as they stand there."""

    magic: int
    version: int
    size: int
    bus_id: int
    hot_id: int
    namespace: int


class HotDirectory:
    """An open hot directory with its control table. The broker alone makes one."""

    def __init__(self, path: Path, fd: int, control: Table, identity: HotIdentity) -> None:
        self.path = path
        self.fd = fd
        self.control = control
        self.incidents = Incidents(control)
        #: the hot directory that could not be used, to save from until this one is published
        self.aside: Path | None = None
        self.hot_id = identity.hot_id

    @property
    def catalog_version(self) -> int:
        return self.control.load_acquire(_CATALOG_VERSION)

    def catalog_changed(self) -> None:
        """Tells every client to look at the topics again."""
        # pairs with the acquire load in bus.client before its cached topics are used
        self.control.store_release(_CATALOG_VERSION, self.catalog_version + 1)

    def take_over(self, directory: BusDirectory, epoch: int, *, autostarted: bool) -> Runtime:
        """Writes who the broker is now: from here on clients that attach are ours."""
        while directory.mended:
            self.incidents.note(Incident.METADATA_MENDED, "%s", directory.mended.pop(0).text)
        self.control.store32_release(_BROKER_PID, os.getpid())
        self.control.store32_release(_STOPPING, 0)
        self.control.store_release(_EPOCH, epoch)
        runtime = Runtime(
            hot_dir=str(self.path),
            epoch=epoch,
            pid=os.getpid(),
            boot_id=boot_id(),
            hot_id=self.hot_id,
            started=timestamp(),
            version=__version__,
            autostarted=autostarted,
        )
        directory.write_runtime(runtime)
        self.publish()
        return runtime

    def announce_stop(self, *, moving: bool = False) -> None:
        """Tells every client that the bus ends; those who sleep must be rung as well.

        `moving`: it goes on in another hot directory, where clients attach anew.
        """
        self.control.store32_release(_STOPPING, MOVING if moving else STOPPING)
        self.catalog_changed()
        # pairs with the fence behind each append, in bus_wake: whoever appends what is not in the
        # copies any more sees that the bus moves, and does not report it as stored
        self.control.fence()

    def publish(self) -> None:
        """Gives bus.ctl its name: from now on clients can attach."""
        names = os.listdir(self.fd)
        if TEMPORARY_CONTROL_FILE in names:
            os.rename(TEMPORARY_CONTROL_FILE, CONTROL_FILE, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        if self.aside is not None:  # what could be saved of it is in this one
            wipe(self.aside)
            self.aside = None

    def put_aside(self) -> None:
        """Takes the directory out of use, with all it holds: the next one is made from it."""
        _make_way(self.path)
        os.close(self.fd)

    def remove(self) -> None:
        """Deletes the directory with all it holds. What is mapped stays until it is unmapped."""
        wipe(self.path)
        os.close(self.fd)


def open_or_create(directory: BusDirectory, wish: Path | None) -> tuple[HotDirectory, bool]:
    """The hot directory of this bus, and whether it was running before (adopted).

    Raises NamespaceError when the processes of another pid namespace still use it.
    """
    known, aside = find_last(directory, wish), None
    if known is not None:
        path, written_boot_id = known
        check_home(directory, path)
        found = _adopt(directory, path, written_boot_id)
        if found is not None:
            wipe(salvage.aside_of(path))
            return found, True
        aside = _put_aside(path, written_boot_id)
    path = beside_squatter(choose_path(directory, wish))
    check_home(directory, path)
    wipe(path)
    if aside is None:  # or it is saved from, and then removed
        check_home(directory, salvage.aside_of(path))
        wipe(salvage.aside_of(path))
    hot = _create(directory, path)
    hot.aside = aside
    return hot, False


def _put_aside(path: Path, written_boot_id: str) -> Path | None:
    """Out of the way with a hot directory of no use; where it is if it may be saved from."""
    aside = salvage.aside_of(path)
    if written_boot_id != boot_id():
        wipe(path)
        wipe(aside)
        return None
    _make_way(path)
    return aside if aside.exists() else None


def _make_way(path: Path) -> None:
    """Puts a hot directory aside, if it is there.

    One that was put aside before is the better one: the other was being made from it.
    """
    if path.exists() and not salvage.aside_of(path).exists():
        salvage.set_aside(path)
    else:
        wipe(path)


def read_identity(data: bytes | memoryview) -> HotIdentity:
    """The first fields of a control file."""
    return HotIdentity(*_IDENTITY.unpack_from(data))


def _adopt(directory: BusDirectory, path: Path, written_boot_id: str) -> HotDirectory | None:
    """The hot directory of a broker that died, if all in it can be believed."""
    try:
        fd = files.open_directory(path)
    except DirectoryError:
        return None
    try:
        control_fd = files.open_file(CONTROL_FILE, dir_fd=fd)
    except DirectoryError:
        os.close(fd)
        return None
    try:
        identity = read_identity(os.pread(control_fd, _IDENTITY.size, 0).ljust(_IDENTITY.size))
        reason = _why_not(identity, directory, os.fstat(control_fd).st_size, written_boot_id)
        if reason is None:
            return HotDirectory(path, fd, Table(control_fd, CONTROL_BYTES), identity)
    finally:
        os.close(control_fd)
    os.close(fd)
    logger.warning(
        "%s cannot be adopted: %s; it is made anew from what can be saved",
        path,
        reason,
    )
    return None


def _why_not(
    identity: HotIdentity, directory: BusDirectory, size: int, written_boot_id: str
) -> str | None:
    expected = (LAYOUT["BUS_MAGIC_BUS"], LAYOUT["BUS_LAYOUT_VERSION"], CONTROL_BYTES)
    if written_boot_id != boot_id():
        return "it was written before the last boot"
    if (identity.magic, identity.version, identity.size) != expected or size != CONTROL_FILE_BYTES:
        return "it has another layout"
    if identity.bus_id != directory.bus_id:
        return "it belongs to another bus"
    if identity.namespace == pid_namespace():
        return None
    lock_fd = directory.open_clients_lock()
    try:
        if any_locked(lock_fd):
            raise NamespaceError(
                f"{directory.path} is in use by processes of another pid namespace (container);"
                " start the broker in theirs, or end them first"
            )
    finally:
        os.close(lock_fd)
    return "it was made in another pid namespace"


def _create(directory: BusDirectory, path: Path) -> HotDirectory:
    with files.explained(str(path.parent)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = files.open_directory(path, create=True)
    files.write_atomic(fd, HOME_FILE, f"{home_of(directory)}\n".encode(), durable=False)
    control_fd = files.open_file(
        TEMPORARY_CONTROL_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=fd
    )
    try:
        files.allocate(control_fd, CONTROL_BYTES)
        os.ftruncate(control_fd, CONTROL_FILE_BYTES)  # sparse: nobody ever writes there
        identity = HotIdentity(
            magic=LAYOUT["BUS_MAGIC_BUS"],
            version=LAYOUT["BUS_LAYOUT_VERSION"],
            size=CONTROL_BYTES,
            bus_id=directory.bus_id,
            hot_id=int.from_bytes(os.urandom(8), "little"),
            namespace=pid_namespace(),
        )
        packed = _IDENTITY.pack(
            identity.magic,
            identity.version,
            identity.size,
            identity.bus_id,
            identity.hot_id,
            identity.namespace,
        )
        os.pwrite(control_fd, packed, 0)
        control = Table(control_fd, CONTROL_BYTES)
    finally:
        os.close(control_fd)
    # generation 0 would be taken for "never attached"
    control.store_release(LAYOUT["bus_control.next_generation"], 1)
    return HotDirectory(path, fd, control, identity)


def wipe(path: Path) -> None:
    """Removes a hot directory. Refuses, with UnsafeDirectoryError, what is not one of ours.

    The control file goes first: without it nobody adopts what a death in between leaves.
    """
    fd = files.open_directory_if_there(path)
    if fd is None:
        return
    try:
        for name in os.listdir(fd):
            if not _OURS.search(name):
                raise UnsafeDirectoryError(f"{path} holds {name!r}, which is no file of a bus")
        with suppress(FileNotFoundError):
            _remove(CONTROL_FILE, fd)
        for name in os.listdir(fd):
            _remove(name, fd)
    finally:
        os.close(fd)
    os.rmdir(path)


def _remove(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except IsADirectoryError:  # somebody's, in the place of a file of ours
        shutil.rmtree(name, dir_fd=dir_fd)
