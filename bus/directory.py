"""The bus directory: where everything of one bus is, opened safely.

    bus.json        truth  {"format", "bus_id", "created"}: written once, see `bus.identity`
    epoch           truth  a number, raised at every start of a broker
    runtime.json    cache  who runs now and where the hot directory is: see `Runtime`
    *.copy          each of these is kept twice, see `bus.twofold`
    broker.lock     locked by the broker for its life
    clients.lock    byte i is locked by client slot i for its life
    broker.sock     control socket            broker.log   log of a daemon
    topics/NAME/P/  durable segments          groups/ID.offsets   offset tables

Names come from outside (topics, groups), so each is checked, and every directory below the root
is opened step by step from the descriptor of the one above.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from bus import files, identity, traces, twofold
from bus.address import Address, resolve_address
from bus.config import check_partitions, check_topic_name
from bus.errors import (
    BusConfigurationError,
    ClosedError,
    CorruptSegmentError,
    DirectoryError,
)
from bus.group_ids import check_group_id, quote_group

logger = logging.getLogger(__name__)

_Content = TypeVar("_Content")

EPOCH_FILE: Final = "epoch"
RUNTIME_FILE: Final = "runtime.json"
BROKER_LOCK: Final = "broker.lock"
BROKER_SOCKET: Final = "broker.sock"
BROKER_LOG: Final = "broker.log"
CLIENTS_LOCK: Final = "clients.lock"
TOPICS: Final = "topics"
GROUPS: Final = "groups"
#: where hot directories live; RAM on every Linux
SHARED_MEMORY: Final = Path("/dev/shm")


def boot_id() -> str:
    """The kernel's random id of this boot: what was in RAM under another one is gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pid_namespace() -> int:
    """Inode of this process's pid namespace; pids and lock owners mean nothing in another one."""
    return os.stat("/proc/self/ns/pid").st_ino


def timestamp() -> str:
    """Now, as files of the bus write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What runtime.json says about the broker that started last. Cache: it may have died."""

    hot_dir: str
    epoch: int
    pid: int
    boot_id: str
    hot_id: int
    started: str
    version: str
    autostarted: bool = False


class BusDirectory:
    """One bus directory, open. Holds one descriptor; a context manager.

    Attributes: `path`, `fd`, `bus_id` (64-bit), `mended`: what a broker made whole again of the
    files of truth, which it counts once it can; `refused`: by name, the groups that it could not.
    """

    def __init__(self, path: Path, fd: int) -> None:
        """Take over `fd`; raises DirectoryError if there is no bus in that directory."""
        self.path = path
        self._fd = fd
        self.mended: list[twofold.Mend] = []
        self.refused: dict[str, str] = {}
        try:
            self.bus_id = self._read_bus_id()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, address: Address) -> Self:
        """The bus in an existing directory. Raises DirectoryError if there is none."""
        path = resolve_address(address)
        return cls(path, files.open_directory(path))

    @classmethod
    def create(cls, address: Address) -> Self:
        """The bus in a directory; both are made if they are not there.

        Two processes may do so at once: both get the same bus.
        """
        path = resolve_address(address)
        files.make_path(path)
        fd = files.open_directory(path)
        try:
            lost = identity.ensure(fd, path, timestamp())
        except BaseException:
            os.close(fd)
            raise
        made = cls(path, fd)
        if lost:
            made.mended.append(twofold.Mend(lost))
        return made

    @property
    def fd(self) -> int:
        """Descriptor of the directory. Raises ClosedError after close()."""
        if self._fd < 0:
            raise ClosedError(f"the bus directory {self.path} is closed; open it again")
        return self._fd

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"BusDirectory({str(self.path)!r})"

    # ------------------------------------------------------------------------------ identity

    @property
    def bus_id_hex(self) -> str:
        """The bus id as 16 hexadecimal digits, as file names carry it."""
        return f"{self.bus_id:016x}"

    def _read_bus_id(self) -> int:
        bus_id, trouble = identity.read_id(self.fd, self.path)
        self._warn(identity.BUS_FILE, trouble)
        return bus_id

    def epoch(self) -> int:
        """The epoch of the broker that started last, 0 if none did."""
        content = self.read_truth(EPOCH_FILE)
        return 0 if content is None else int(content["epoch"])

    def raise_epoch(self) -> int:
        """Count one more start of a broker, durably. The caller holds broker.lock.

        The directory itself is on disk then, too, also if its maker died before that.
        """
        epoch = self._last_epoch() + 1
        self.write_truth(EPOCH_FILE, {"epoch": epoch})
        files.sync_parent(self.path)
        return epoch

    def _last_epoch(self) -> int:
        """If the file and its copy are lost: the highest that is still in use anywhere."""
        try:
            epoch, trouble = self.epoch(), f"{self.path / EPOCH_FILE} and its copy are missing"
        except CorruptSegmentError as error:
            epoch, trouble = 0, str(error)
        if epoch:
            return epoch
        runtime, hot_path = self.read_runtime(), self.known_hot_path()
        epoch = max(runtime.epoch if runtime else 0, traces.highest_epoch(hot_path))
        if epoch or traces.are_there(self.fd):
            self.mended.append(twofold.Mend(f"{trouble}; epochs go on from {epoch}"))
        return epoch

    def read_runtime(self) -> Runtime | None:
        """What the last broker said about itself; None if nothing that can be read."""
        try:
            content = self.read_truth(RUNTIME_FILE) or {}
            return Runtime(**{f.name: content[f.name] for f in fields(Runtime)})
        except (CorruptSegmentError, KeyError):
            return None  # a cache that a power loss cut short: the next broker writes it anew

    def write_runtime(self, runtime: Runtime) -> None:
        """Say who runs now and where the hot directory is."""
        self.write_truth(RUNTIME_FILE, asdict(runtime), durable=False)

    def known_hot_path(self) -> Path | None:
        """The hot directory of this boot: where runtime.json says, else where it belongs in RAM."""
        runtime = self.read_runtime()
        if runtime is not None:
            return Path(runtime.hot_dir) if runtime.boot_id == boot_id() else None
        return self.default_hot_path() if self.default_hot_path().is_dir() else None

    # --------------------------------------------------------------------------------- truth

    def seal(self, relative: str) -> str:
        """What the checksum of a file of truth covers beside its content: whose it is."""
        return f"{self.bus_id_hex}/{relative}"

    def read_truth(self, relative: str) -> dict[str, Any] | None:
        """A small file of truth below the root, or its copy; None if it was never written.

        Raises CorruptSegmentError if neither can be believed.
        """
        kept = self._read(relative, partial(twofold.read, seal=self.seal(relative)))
        if kept is None:
            return None
        self._warn(relative, kept.trouble)
        return kept.value

    def write_truth(self, relative: str, value: dict[str, Any], durable: bool = True) -> None:
        """Replace a file of truth and its copy; its directory is there already."""
        with self._parent(relative) as (fd, name):
            twofold.write(fd, name, value, self.seal(relative), durable=durable)

    def mend_truth(self, relative: str) -> None:
        """Make a file of truth and its copy good again if one is; the caller alone writes it."""
        with self._parent(relative) as (fd, name):
            done = twofold.mend(fd, name, self.seal(relative))
        if done:
            self.mended.append(twofold.Mend(done))

    def remove_truth(self, relative: str) -> None:
        """Unlink a file of truth and its copy, if they are there."""
        with self._parent(relative) as (fd, name):
            twofold.remove(fd, name)

    def _warn(self, relative: str, trouble: str) -> None:
        if trouble:
            logger.warning(
                "%s: %s; its copy answers, and a broker restores it when it starts",
                self.path / relative,
                trouble,
            )

    # --------------------------------------------------------------------------------- files

    def read_json(self, relative: str) -> dict[str, Any] | None:
        """A JSON file below the root, None if it, or its directory, is not there."""
        return self._read(relative, files.read_json)

    def write_json(self, relative: str, value: dict[str, Any], durable: bool = True) -> None:
        """Replace a JSON file below the root atomically; its directory is there already."""
        with self._parent(relative) as (fd, name):
            files.write_json(fd, name, value, durable=durable)

    def _read(self, relative: str, read: Callable[[int, str], _Content | None]) -> _Content | None:
        """What `read` makes of a file below the root; None if its directory is not there."""
        *parents, name = _steps(relative)
        try:
            fd = self.open_below(*parents)
        except DirectoryError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        try:
            return read(fd, name)
        finally:
            os.close(fd)

    @contextmanager
    def _parent(self, relative: str) -> Iterator[tuple[int, str]]:
        """The directory of a file below the root, and the file's name in it."""
        *parents, name = _steps(relative)
        fd = self.open_below(*parents)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def open_below(self, *steps: str, create: bool = False) -> int:
        """A checked descriptor of a directory below the root; the caller closes it.

        With `create`, directories that are not there are made, durably.
        """
        fd = os.dup(self.fd)
        for step in steps:
            try:
                if create:
                    files.make_directory(_step(step), dir_fd=fd)
                below = files.open_directory(_step(step), dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def open_topics(self) -> int:
        """Descriptor of the directory of all topics, made if needed; the caller closes it."""
        return self.open_below(TOPICS, create=True)

    def open_topic(self, name: str) -> int:
        """Descriptor of a topic's directory; the caller closes it."""
        return self.open_below(TOPICS, check_topic_name(name))

    def open_partition(self, name: str, partition: int, create: bool = False) -> int:
        """Descriptor of a partition's directory; the caller closes it."""
        check_partitions(partition + 1)
        return self.open_below(TOPICS, check_topic_name(name), str(partition), create=create)

    def open_groups(self) -> int:
        """Descriptor of the directory of all groups, made if needed; the caller closes it."""
        return self.open_below(GROUPS, create=True)

    def open_lock(self, name: str) -> int:
        """A new open file description of a lock file, made if needed; the caller closes it.

        New each time, because the lock belongs to the description: two slots of one process, or
        a parent and its child, must not share one.
        """
        return files.open_file(name, os.O_RDWR | os.O_CREAT, dir_fd=self.fd)

    def open_clients_lock(self) -> int:
        """A new open file description of clients.lock; the caller closes it."""
        return self.open_lock(CLIENTS_LOCK)

    def remove(self, name: str) -> None:
        """Unlink a file of the root, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    # --------------------------------------------------------------------------------- paths

    @property
    def socket_path(self) -> str:
        """The control socket by a path short enough for any depth (sun_path has 108 bytes).

        Good in this process, as long as the directory is open.
        """
        return f"/proc/self/fd/{self.fd}/{BROKER_SOCKET}"

    @property
    def log_path(self) -> Path:
        """The log of a broker that runs as a daemon."""
        return self.path / BROKER_LOG

    @property
    def topics_path(self) -> Path:
        """The directory of all topics."""
        return self.path / TOPICS

    @property
    def groups_path(self) -> Path:
        """The directory of all groups' offsets."""
        return self.path / GROUPS

    def topic_path(self, name: str) -> Path:
        """The directory of a topic."""
        return self.topics_path / check_topic_name(name)

    def partition_path(self, name: str, partition: int) -> Path:
        """The directory of a partition's durable segments."""
        check_partitions(partition + 1)
        return self.topic_path(name) / str(partition)

    def offsets_path(self, group: str) -> Path:
        """The offset table of a group."""
        return self.groups_path / offsets_name(group)

    def default_hot_path(self) -> Path:
        """Where the hot directory belongs: RAM."""
        return SHARED_MEMORY / f"bus-{os.geteuid()}-{self.bus_id_hex}"

    def fallback_hot_path(self) -> Path:
        """Where it goes when /dev/shm is too small."""
        return self.path / "hot"


def offsets_name(group: str) -> str:
    """File name of a group's offset table."""
    return quote_group(check_group_id(group)) + ".offsets"


def _steps(relative: str) -> list[str]:
    return [_step(step) for step in relative.split("/")]


def _step(name: str) -> str:
    """One step of a path. Names of topics and groups are checked before; this is the last wall."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise BusConfigurationError(f"{name!r} is not the name of a file of the bus")
    return name
