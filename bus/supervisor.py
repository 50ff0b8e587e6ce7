"""The broker process: one thread, one selector, no part in the data path.

    python -m bus.supervisor DIR [--autostarted] [--ready-fd N] [--owner-fd N] [--hot-dir D]
                                 [--config JSON] [--log-file]

start    lock ─► epoch ─► hot directory (adopt or rebuild) ─► partitions ─► groups ─► the dead
         ─► runtime.json, bus.ctl ─► replicas ─► control socket ─► "ready"
run      requests, deaths of clients and replicas as they happen; everything else once a second
move     a shared page was overwritten (`bus.guard`): leave the hot directory, save what can be
         saved of it (`bus.salvage`), and start again, in this process
stop     refuse new records ─► replicas sync and end ─► clean ends on disk ─► doorbells, hot
         directory, socket

Killed at any moment, the next broker adopts what it finds, or rebuilds it (`bus.recovery`).
"""

import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bus import __version__, control, mending
from bus.address import Address
from bus.config import BrokerConfig
from bus.daemon import (
    Starter,
    become_daemon,
    log_to_file,
    parse_arguments,
    raise_file_limit,
    take_broker_lock,
)
from bus.directory import BROKER_SOCKET, RUNTIME_FILE, BusDirectory, Runtime
from bus.doorbells import unlink_doorbells
from bus.errors import BrokerAlreadyRunningError, BusError, CorruptSegmentError
from bus.eviction import Inheritance, abandon, end_culprits
from bus.groups import Groups
from bus.guard import Guard, Spoiled
from bus.hotdir import open_or_create
from bus.inventory import Inventory
from bus.keeper import Keeper
from bus.native.core import Bells
from bus.open_partition import OpenPartition
from bus.operations import Operations
from bus.reception import Reception
from bus.registry import Registry
from bus.retainer import Retainer
from bus.sharing import Sharing
from bus.signal_bell import SignalBell, when_closed
from bus.status import Status
from bus.syncer import Syncer

logger = logging.getLogger("bus.supervisor")

#: Pause between two rounds of everything that no event announces, in seconds.
TICK_S: Final = 1.0
#: Replicas of a hot directory that is being left have so long to sync, in seconds.
MOVE_TIMEOUT_S: Final = 3.0
LOG_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

EXIT_STOPPED: Final = 0
EXIT_ALREADY_RUNNING: Final = 1
EXIT_UNUSABLE: Final = 2


class Supervisor:
    """One broker, from taking the lock to leaving nothing behind."""

    def __init__(
        self,
        directory: BusDirectory,
        config: BrokerConfig,
        *,
        hot_dir: Path | None = None,
        autostarted: bool = False,
        progress: Callable[[], None] = lambda: None,
        inheritance: Inheritance | None = None,
    ) -> None:
        """Starts everything but the loop. Raises BusError when that cannot be done.

        `inheritance`: this process was the broker before. `progress`: called if it takes long.
        """
        self._progress = progress
        self._directory = directory
        self._config = config
        self._lock_fd = inheritance.lock_fd if inheritance else take_broker_lock(directory)
        self.epoch = mending.begin(directory)
        # Not epoll: it goes on reporting a closed socket as long as a child that was just forked
        # has not closed its copy, under a number that belongs to another client by then.
        self._selector = selectors.PollSelector()
        self._ends_alone = autostarted
        self._last_client_s = self._last_retention_s = self._last_sync_s = time.monotonic()
        self._last_tick_s = 0.0
        self._stop_deadline_s: float | None = None
        self._spoiled: tuple[Spoiled, ...] = ()
        self._killed: tuple[int, ...] = ()
        self._asked_to_stop = False
        self._open(hot_dir, autostarted, inheritance)
        if inheritance is not None and inheritance.is_stopping:
            self._begin_stop()

    def _open(
        self, hot_dir: Path | None, autostarted: bool, inheritance: Inheritance | None
    ) -> None:
        directory = self._directory
        adopted, partitions = self._open_hot(hot_dir)
        if inheritance is not None:
            inheritance.note(self._hot.incidents)
        bells = self._bells
        self._groups = Groups(directory, self._hot, bells, self._inventory.catalog)
        self._groups.open_all(fence=adopted or self._hot.aside is not None)
        self._groups.syncer = Syncer(directory, self._selector, self._hot.incidents)
        self._registry = Registry(directory, self._hot, self._free_client)
        self._registry.probe_all()
        runtime = self._hot.take_over(directory, self.epoch, autostarted=autostarted)
        self._keeper = Keeper(directory, self._hot, self._selector, self._config)
        self._retainer = Retainer(directory, self._hot, self._inventory)
        self._sharing = Sharing(
            directory, self._hot, self._inventory, self._selector, self._config.shared
        )
        self._operations = self._make_operations(runtime)
        self._signals = SignalBell(self._selector, STOP_SIGNALS, self._on_signal)
        gc.collect()
        self._keeper.add([partition for partition in partitions if partition.is_replicated])
        pause_s = self._config.page_check_ms / 1000
        self._guard = Guard(self._hot, self._inventory, self._registry, self.epoch, pause_s)
        self._counts = self._hot.incidents.counts()
        listener_fd = inheritance.listener_fd if inheritance else control.listen(directory).detach()
        self._listener = socket.socket(fileno=listener_fd)
        self._reception = Reception(
            self._listener, self._selector, self._operations, self._registry
        )
        logger.info(
            "broker %s, epoch %d, %s %s with %d partitions in %s",
            __version__,
            self.epoch,
            "adopted" if adopted else "opened",
            directory.path,
            len(partitions),
            self._hot.path,
        )

    def _open_hot(self, hot_dir: Path | None) -> tuple[bool, list[OpenPartition]]:
        """The hot directory and all partitions in it; whether they are those of a dead broker."""
        while True:
            self._hot, adopted = open_or_create(self._directory, hot_dir)
            unlink_doorbells(self._directory.bus_id_hex, but_of=self._hot.hot_id)
            self._bells = Bells(self._hot.control)
            self._inventory = Inventory(self._directory, self._hot, self._bells, self.epoch)
            try:
                return adopted, self._inventory.open_all(self._progress)
            except CorruptSegmentError as error:
                if not adopted:
                    raise
                logger.error("%s cannot be adopted: %s", self._hot.path, error)
                self._hot.announce_stop(moving=True)
                self._hot.put_aside()

    def _make_operations(self, runtime: Runtime) -> Operations:
        directory, hot = self._directory, self._hot
        parts = (self._inventory, self._groups, self._keeper, self._registry)
        status = Status(directory, hot, runtime, *parts, self._retainer)
        return Operations(directory, hot, runtime, self._config, *parts, status, self._begin_stop)

    def _free_client(self, slot: int, generation: int) -> bool:
        """Frees all that a dead client held, before its slot is freed; False if some is left."""
        readers = self._inventory.reap(slot, generation)
        return self._groups.reap(slot, generation) and readers

    # ------------------------------------------------------------------------------- the loop

    def run(self) -> Inheritance | None:
        """Serves until a stop is asked for, by signal, request or loneliness; then stops.

        Returns what the next Supervisor of this process needs, if the bus is to move instead.
        """
        while not self._is_finished():
            try:
                self._take_turn()
            except Exception:
                # Memory that anybody may write to can make anything fail; then it must be seen.
                if not self._move_if_spoiled(everywhere=True):
                    raise
                logger.exception("the broker goes on in a new hot directory")
        if self._spoiled:
            return self._leave()
        self._finish()
        return None

    def _take_turn(self) -> None:
        for key, _ in self._selector.select(self._timeout_s()):
            if self._selector.get_map().get(key.fd) == key:  # or one before it has closed that
                key.data()
        now = time.monotonic()
        self._registry.probe_dying(now)
        if now - self._last_tick_s >= TICK_S:
            self._last_tick_s = now
            self._tick(now)
        self._keeper.tick()
        self._sharing.tick()

    def _timeout_s(self) -> float:
        now = time.monotonic()
        due = [self._last_tick_s + TICK_S - now]
        if (next_probe_s := self._registry.next_probe_s()) is not None:
            due.append(next_probe_s - now)
        if self._stop_deadline_s is None and (start_s := self._keeper.next_start_s()) is not None:
            due.append(start_s)
        return max(0.0, min(due))

    def _tick(self, now: float) -> None:
        if self._spoiled or (self._guard.is_due(now) and self._move_if_spoiled()):
            return  # nothing in that hot directory is to be believed
        self._counts = self._hot.incidents.counts()
        self._registry.probe_all()
        self._inventory.tend_all(self._groups.syncer)
        if now - self._last_sync_s >= self._config.offsets_sync_ms / 1000:
            self._last_sync_s = now
            self._groups.sync_nowait()
        if now - self._last_retention_s >= self._config.retention_check_ms / 1000:
            self._last_retention_s = now
            self._retainer.run()
        if self._ends_alone:
            self._end_if_alone(now)

    def _end_if_alone(self, now: float) -> None:
        """An autostarted broker ends when nobody is attached; records in memory keep it alive."""
        if self._registry.clients() or self._inventory.keeps_alive(self._config):
            self._last_client_s = now
        elif now - self._last_client_s >= self._config.linger_s:
            logger.info("no client for %g s; the broker ends", self._config.linger_s)
            self._begin_stop()

    # -------------------------------------------------------------------------------- signals

    def _on_signal(self, number: int) -> None:
        logger.info("%s: stopping", signal.Signals(number).name)
        self._begin_stop()

    def watch_owner(self, fd: int) -> None:
        """Ends like an autostarted broker once the other end of this pipe is closed."""

        def owner_is_gone() -> None:
            self._ends_alone = True
            self._last_client_s = time.monotonic()
            logger.info("the process that started this broker is gone")

        when_closed(self._selector, fd, owner_is_gone)

    def _begin_stop(self) -> None:
        self._asked_to_stop = True  # a bus that moves stops where it moves to
        if self._stop_deadline_s is not None:
            return
        self._stop_deadline_s = time.monotonic() + self._config.stop_timeout_s
        self._sharing.end()
        self._inventory.fence()
        self._hot.announce_stop()
        self._groups.fence()
        for row in self._registry.rows():
            self._bells.ring(row.slot)
        self._keeper.begin_stop()

    # --------------------------------------------------------------------------------- moving

    def _move_if_spoiled(self, *, everywhere: bool = False) -> bool:
        """Begins to leave the hot directory if its pages were overwritten; True if so."""
        spoiled = tuple(self._guard.look(everywhere=everywhere))
        if not spoiled or self._spoiled or self._stop_deadline_s is not None:
            return bool(self._spoiled)
        for one in spoiled:
            logger.error("%s was overwritten: %s", self._hot.path / one.file, one.what)
        self._spoiled = spoiled
        self._killed = end_culprits(spoiled, self._keeper.pids())
        self._stop_deadline_s = time.monotonic() + MOVE_TIMEOUT_S
        self._hot.announce_stop(moving=True)
        abandon(self._inventory.partitions())
        for slot in self._registry.connected_slots():
            self._bells.ring(slot)
        self._keeper.begin_stop()
        return True

    def _leave(self) -> Inheritance:
        """Gives up what belongs to the old hot directory; it is put aside, to be saved from."""
        self._sharing.end()
        self._groups.release()
        self._reception.close()
        self._registry.close()
        self._signals.close()
        self._selector.close()
        self._hot.put_aside()
        knowledge = (self._counts, self._spoiled, self._killed, self._asked_to_stop)
        return Inheritance(self._lock_fd, self._listener.detach(), *knowledge)

    def _is_finished(self) -> bool:
        if self._stop_deadline_s is None:
            return False
        if not self._keeper.is_idle and time.monotonic() >= self._stop_deadline_s:
            self._stop_deadline_s += self._config.stop_timeout_s + TICK_S
            self._keeper.kill()
        return self._keeper.is_idle

    def _finish(self) -> None:
        """All replicas have ended: leave a clean end on disk, and nothing elsewhere."""
        complete = self._inventory.store_clean_ends() and self._groups.fence()
        self._groups.sync(last=True)
        self._reception.close()
        self._listener.close()
        self._registry.close()
        self._directory.remove(BROKER_SOCKET)
        if complete:
            self._inventory.mark_gone()
            unlink_doorbells(self._directory.bus_id_hex)
            self._hot.remove()
            self._directory.remove_truth(RUNTIME_FILE)
            logger.info("the bus in %s is stopped", self._directory.path)
        else:
            logger.error("%s is kept; the next broker makes it durable", self._hot.path)
        os.close(self._lock_fd)


# ------------------------------------------------------------------------------------ process


def serve(
    path: Address,
    *,
    hot_dir: Path | None = None,
    config: BrokerConfig | None = None,
    autostarted: bool = False,
    starter: Starter | None = None,
    owner_fd: int | None = None,
    log_file: bool = False,
) -> int:
    """Runs a broker in this process until it is stopped; returns 0.

    Raises BrokerAlreadyRunningError, and other BusErrors when the directory cannot be used.
    The process must have one thread only: replicas are forked from it.
    """
    with BusDirectory.create(path) as directory:
        if log_file:
            log_to_file(directory)
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
        raise_file_limit()
        start = partial(
            Supervisor,
            directory,
            config or BrokerConfig(),
            hot_dir=hot_dir,
            autostarted=autostarted,
        )
        starter = starter or Starter(None)
        supervisor = start(progress=starter.progress)
        starter.tell({"pid": os.getpid(), "epoch": supervisor.epoch})
        while True:
            if owner_fd is not None:
                supervisor.watch_owner(owner_fd)
            inheritance = supervisor.run()
            if inheritance is None:
                return EXIT_STOPPED
            supervisor = start(inheritance=inheritance)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns its exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments, __doc__)
    if options.autostarted:
        become_daemon()
    starter = Starter(options.ready_fd)
    try:
        return serve(
            options.directory,
            hot_dir=options.hot_dir,
            config=BrokerConfig.from_json(options.config),
            autostarted=options.autostarted,
            starter=starter,
            owner_fd=options.owner_fd,
            log_file=options.log_file,
        )
    except (BusError, OSError, MemoryError, TypeError) as error:
        # Whatever it left, the next broker adopts or rebuilds, as after a kill.
        text = str(error) or type(error).__name__
        starter.tell({"error": type(error).__name__, "message": text})
        sys.stderr.write(f"{text}\n")
        if not isinstance(error, BusError):
            logger.exception("the broker ends; the next one takes over what it leaves")
        already = isinstance(error, BrokerAlreadyRunningError)
        return EXIT_ALREADY_RUNNING if already else EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
