"""A whole bus directory at rest: what a check finds is mended, as far as anything can mend it.

    1  what is no file, where a file must be, is moved away; the broker's lock is taken
    2  small files of truth, as a broker does at its start (`bus.mending`); topics and groups that
       nothing tells are moved away
    3  if a hot directory is there: durable files from it; then a broker makes all of it durable,
       and stops
    4  durable files: made anew from what verifies; what is lost becomes a gap that readers are told
    5  a check of all

Each step leaves a bus that may be repaired again, so a repair may be killed anywhere.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from bus import files, mending, salvage
from bus.address import Address, resolve_address
from bus.broker import Broker
from bus.catalog import Catalog, Topic
from bus.check import Damage, check_directory
from bus.check.hot import control_table
from bus.daemon import take_broker_lock
from bus.directory import BusDirectory
from bus.errors import BusError, CorruptSegmentError, IllegalStateError
from bus.hot_place import CONTROL_FILE
from bus.incidents import Incidents
from bus.liveness import any_locked
from bus.repair.acks import renew_acks
from bus.repair.aside import Aside
from bus.repair.done import Log, Repair
from bus.repair.metadata import clear_topics, open_identity, renew_groups
from bus.repair.partition import PartitionRepair
from bus.repair.plants import clear_hot_plants, clear_plants

Progress = Callable[[int], None]


class Outcome(NamedTuple):
    """What was done, and the damages that are left."""

    repairs: tuple[Repair, ...]
    damages: tuple[Damage, ...]

    @property
    def has_losses(self) -> bool:
        """Something is gone for good."""
        return any(repair.lost for repair in self.repairs)


def repair_directory(path: Address, *, progress: Progress | None = None) -> Outcome:
    """Repair the bus in directory `path`; `progress` is called with the number of bytes done.

    Raises DirectoryError if there is no bus, BrokerAlreadyRunningError and IllegalStateError
    while a broker or a client uses it, and OSError or BusError if a file cannot be read or written.
    """
    root = resolve_address(path)
    os.close(files.open_directory(root))
    log, aside = Log(), Aside(root)
    _refuse_if_used(root)
    clear_plants(root, log, aside)
    if not check_directory_or_error(root):
        return Outcome(tuple(log.repairs), ())
    with open_identity(root, log, aside) as directory:
        _Repair(directory, log, aside, progress or _ignore).run()
    return Outcome(tuple(log.repairs), tuple(check_directory(root)))


def check_directory_or_error(root: Path) -> list[Damage]:
    """The damages; what keeps a check from looking at all is one."""
    try:
        return check_directory(root)
    except BusError as error:
        if not any((root / name).exists() for name in ("bus.json", "bus.json.copy", "topics")):
            raise
        return [Damage("bus.json", 0, str(error))]


def _ignore(_: int) -> None:
    """No progress is shown."""


def _refuse_if_used(root: Path) -> None:
    """Raises IllegalStateError while a broker or replica runs, or a client is attached."""
    for path in (root / "broker.lock", root / "clients.lock"):
        if not path.is_file() or path.is_symlink():
            continue
        fd = files.open_own(path, os.O_RDWR)
        try:
            if any_locked(fd):
                raise IllegalStateError(
                    f"programs use the bus in {root}; end them, stop the bus with: bus stop {root},"
                    " and repair it then"
                )
        finally:
            os.close(fd)


def _gaps(incidents: Incidents | None) -> int:
    """The gaps that replicas have told of, as far as the broker's page says."""
    if incidents is None:
        return 0
    try:
        return incidents.counts()["gap_reported"]
    except CorruptSegmentError:  # it was cut: then the bus begins in another directory
        return 0


class _Repair:
    """One run over one directory."""

    def __init__(self, directory: BusDirectory, log: Log, aside: Aside, progress: Progress) -> None:
        self._directory = directory
        self._log = log
        self._aside = aside
        self._progress = progress

    def run(self) -> None:
        lock_fd = take_broker_lock(self._directory)
        try:
            clear_topics(self._directory, self._log, self._aside)
            mending.begin(self._directory)
            self._tell_mended()
            renew_groups(self._directory, self._log, self._aside)
            renew_acks(self._directory, self._log, self._aside)
            self._tell_mended()
            hot_path = self._directory.known_hot_path()
            is_hot = hot_path is not None and hot_path.is_dir()
            if hot_path is not None and is_hot:
                clear_hot_plants(hot_path, self._log, self._aside)
                self._repair_files(hot_path)
        finally:
            os.close(lock_fd)
        if hot_path is not None and is_hot:
            self._make_durable(hot_path)
        lock_fd = take_broker_lock(self._directory)
        try:
            self._repair_files(None)
        finally:
            os.close(lock_fd)

    def _make_durable(self, hot_path: Path) -> None:
        """Has replicas make durable what RAM alone has; then the broker removes the hot log."""
        with ExitStack() as stack:
            incidents = None
            with suppress(OSError, BusError):  # without it, the bus begins in another directory
                incidents = Incidents(stack.enter_context(control_table(hot_path / CONTROL_FILE)))
            before = _gaps(incidents)
            with Broker(self._directory.path):
                pass
            gaps = _gaps(incidents) - before
        what = "the bus was started and stopped, to make its hot log durable"
        if gaps:
            what += f"; in {gaps} places, records that RAM alone had are lost, and readers are told"
        self._log.add(".", what, lost=gaps > 0)

    def _tell_mended(self) -> None:
        root = f"{self._directory.path}/"
        for mend in self._directory.mended:
            file, _, what = mend.text.partition(" ")
            self._log.add(file.removeprefix(root).rstrip(":"), what, lost=mend.lost)
        self._directory.mended.clear()

    def _repair_files(self, hot_path: Path | None) -> None:
        damaged = {damage.file for damage in check_directory(self._directory.path)}
        for topic in Catalog(self._directory).topics():
            if not topic.config.replicated:
                continue
            for number in range(topic.partitions):
                hot = None if hot_path is None else self._hot(hot_path, topic, number)
                PartitionRepair(
                    self._directory,
                    topic,
                    number,
                    damaged,
                    self._log,
                    self._aside,
                    self._progress,
                    hot,
                ).run()

    def _hot(self, hot_path: Path, topic: Topic, number: int) -> Mapping[int, bytes]:
        """Hot segments whose headers verify, by number."""
        fd = files.open_directory(hot_path)
        try:
            found = salvage.find(fd, self._directory.bus_id, topic.id, number)
        finally:
            os.close(fd)
        return {one.header.number: (hot_path / one.name).read_bytes() for one in found}
