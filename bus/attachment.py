"""Attaching to a running bus: its control table, a slot in it, and the broker told of it.

    connect to the broker ─► bus.ctl (magic, version, bus, namespace) ─► client slot ─► hello

The connection comes first, because a broker that answers has made bus.ctl; the slot comes before
the hello, because the broker looks at the lock of the slot that it is told.
"""

import os
import time
from pathlib import Path
from typing import Any, Final

from bus import files
from bus.canary import CANARY_BYTES
from bus.control import ControlClient
from bus.directory import BusDirectory, Runtime, pid_namespace
from bus.errors import (
    BrokerNotRunningError,
    CorruptSegmentError,
    DirectoryError,
    NamespaceError,
    UnsupportedVersionError,
)
from bus.liveness import ROLE_NAMES, ClientSlot
from bus.native.core import LAYOUT, Bells, Table

CONTROL_FILE: Final = "bus.ctl"
#: The table, and what lies behind it.
CONTROL_FILE_BYTES: Final = LAYOUT["sizeof.bus_control"] + CANARY_BYTES

#: a broker may end between its answer and our hello, and another take its place; or it moves to
#: another hot directory: within so many seconds, with pauses between the attempts
_PATIENCE_S: Final = 3.0
_PAUSE_S: Final = 0.01


class HotView:
    """The hot directory as a client sees it. Attributes: `fd`, `control`, `hot_id`, `path`.

    The descriptor is closed when nobody holds the view any more: attached partitions open their
    segments by its number, and must never find another directory there.
    """

    def __init__(self, directory: BusDirectory, runtime: Runtime) -> None:
        """Open and check it. Raises NamespaceError, UnsupportedVersionError, DirectoryError."""
        self.fd = -1
        self.path = Path(runtime.hot_dir)
        self.fd = files.open_directory(self.path)
        self.control = _open_control(self.fd)
        check_control(self.control, directory, self.path / CONTROL_FILE)
        self.hot_id = _word(self.control, "hot_id")

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class HotBells(Bells):
    """Doorbells that keep the hot directory open; every attached partition holds them."""

    def __init__(self, hot: HotView) -> None:
        super().__init__(hot.control)
        self.hot = hot


def _open_control(hot_fd: int) -> Table:
    fd = files.open_file(CONTROL_FILE, dir_fd=hot_fd)
    try:
        size = os.fstat(fd).st_size
        if size < LAYOUT["BUS_PAGE"]:
            raise CorruptSegmentError(f"{files.path_of(fd)} has {size} bytes: no control file")
        return Table(fd, min(size, CONTROL_FILE_BYTES))
    finally:
        os.close(fd)


def check_control(control: Table, directory: BusDirectory, path: Path) -> None:
    """Raise an error that names the cause if this bus.ctl is not one for this process."""
    if _word(control, "magic") != LAYOUT["BUS_MAGIC_BUS"]:
        raise CorruptSegmentError(f"{path} is no control file of a bus: wrong magic number")
    version = control.load32_acquire(LAYOUT["bus_control.version"])
    if version != LAYOUT["BUS_LAYOUT_VERSION"]:
        raise UnsupportedVersionError(
            f"{path} has layout version {version}, this version of bus uses"
            f" {LAYOUT['BUS_LAYOUT_VERSION']}; stop the bus and start it with one version only"
        )
    if len(control.view) != CONTROL_FILE_BYTES or _word(control, "bus_id") != directory.bus_id:
        raise CorruptSegmentError(f"{path} does not belong to the bus in {directory.path}")
    namespace = _word(control, "pid_namespace")
    if namespace != pid_namespace():
        raise NamespaceError(
            f"the bus in {directory.path} runs in another pid namespace ({namespace}, here it is"
            f" {pid_namespace()}): shared locks cannot tell its threads from ours; run both in one"
            " container, or share the namespace (docker run --pid=…)"
        )


def _word(control: Table, field: str) -> int:
    return control.load_acquire(LAYOUT[f"bus_control.{field}"])


class Attachment:
    """One stay at a bus, from connecting until leaving it.

    Attributes: `control_client`, `hot` (HotView), `bells`, `slot`.
    """

    def __init__(self, control_client: ControlClient, hot: HotView, slot: ClientSlot) -> None:
        self.control_client = control_client
        self.hot = hot
        self.slot = slot
        self.bells = HotBells(hot)

    def leave(self) -> None:
        """Free the slot, end the connection. Idempotent."""
        try:
            self.slot.release()
        finally:
            self.control_client.close()

    def abandon(self) -> None:
        """Let go without touching what is shared: in a forked child it is the parent's."""
        self.slot.after_fork()
        self.control_client.after_fork()


def attach(
    directory: BusDirectory, *, role: int, client_id: str, autostart: bool, timeout_s: float
) -> Attachment:
    """Attach to the bus in the directory.

    Raises BrokerNotRunningError, TooManyClientsError, NamespaceError, UnsupportedVersionError.
    """
    deadline = time.monotonic() + min(timeout_s, _PATIENCE_S)
    while True:
        connection = connect(directory, autostart=autostart, timeout_s=timeout_s)
        try:
            return _attach(connection, directory, role, client_id)
        except (BrokerNotRunningError, DirectoryError) as error:
            connection.close()
            if time.monotonic() >= deadline or not _may_pass(error):
                raise
            time.sleep(_PAUSE_S)
        except BaseException:
            connection.close()
            raise


def connect(directory: BusDirectory, *, autostart: bool, timeout_s: float) -> ControlClient:
    """A connection to the broker, which is started if need be and allowed."""
    if not autostart:
        return ControlClient(directory, timeout_s=timeout_s)
    from bus import autostart as starting  # here, because subprocess is slow to import

    return starting.connect(directory, autostart=True, timeout_s=timeout_s)


def _may_pass(error: BrokerNotRunningError | DirectoryError) -> bool:
    """True if a broker that was just ending, starting or moving explains the error."""
    return isinstance(error, BrokerNotRunningError) or isinstance(
        error.__cause__, FileNotFoundError
    )


def _attach(
    connection: ControlClient, directory: BusDirectory, role: int, client_id: str
) -> Attachment:
    runtime = directory.read_runtime()
    if runtime is None:
        raise BrokerNotRunningError(f"the broker in {directory.path} wrote no runtime.json")
    hot = HotView(directory, runtime)
    slot = ClientSlot.take(directory, hot.control, role, client_id)
    attachment = Attachment(connection, hot, slot)
    try:
        answer = greet(connection, slot, role, client_id)
        if answer.get("hot_dir", runtime.hot_dir) != runtime.hot_dir:
            raise BrokerNotRunningError(f"the broker in {directory.path} was just replaced")
    except BaseException:
        attachment.leave()
        raise
    return attachment


def greet(connection: ControlClient, slot: ClientSlot, role: int, client_id: str) -> dict[str, Any]:
    """Tell the broker who is at the other end of this connection."""
    return connection.call(
        "hello",
        client_id=client_id,
        role=ROLE_NAMES[role],
        pid=os.getpid(),
        slot=slot.slot,
        generation=slot.generation,
    )
