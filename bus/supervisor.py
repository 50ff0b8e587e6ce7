"""The broker process: one thread, one selector, no part in the data path.

    python -m bus.supervisor DIR [--autostarted] [--ready-fd N] [--owner-fd N] [--hot-dir D]
                                 [--config JSON] [--log-file]

start    lock ─► epoch ─► hot directory (adopt or rebuild) ─► partitions ─► groups ─► the dead
         ─► runtime.json, bus.ctl ─► replicas ─► control socket ─► "ready"
run      requests, deaths of clients and replicas as they happen; everything else once a second
stop     refuse new records ─► replicas sync and end ─► clean ends on disk ─► doorbells, hot
         directory, socket

Killed at any moment, the next broker adopts what it finds, or rebuilds it (`bus.recovery`).
"""

import argparse
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from bus import __version__, control
from bus.address import Address
from bus.config import BrokerConfig
from bus.control import Connection, Request
from bus.daemon import Starter, become_daemon, log_to_file, raise_file_limit, take_broker_lock
from bus.directory import (
    BROKER_SOCKET,
    RUNTIME_FILE,
    BusDirectory,
    Runtime,
    boot_id,
    timestamp,
)
from bus.doorbells import unlink_doorbells
from bus.errors import BrokerAlreadyRunningError, BusError
from bus.groups import Groups
from bus.hotdir import open_or_create
from bus.inventory import Inventory
from bus.keeper import Keeper
from bus.native.core import Bells
from bus.operations import Operations, Session
from bus.registry import Registry
from bus.retainer import Retainer
from bus.sharing import Sharing
from bus.status import Status

logger = logging.getLogger("bus.supervisor")

#: Pause between two rounds of everything that no event announces, in seconds.
TICK_S: Final = 1.0
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
    ) -> None:
        """Starts everything but the loop. Raises BusError when that cannot be done."""
        self._directory = directory
        self._config = config
        self._lock_fd = take_broker_lock(directory)
        self.epoch = directory.raise_epoch()
        # Not epoll: it goes on reporting a closed socket as long as a child that was just forked
        # has not closed its copy, under a number that belongs to another client by then.
        self._selector = selectors.PollSelector()
        self._sessions: set[Session] = set()
        self._ends_alone = autostarted
        self._last_client_s = self._last_retention_s = self._last_sync_s = time.monotonic()
        self._last_tick_s = 0.0
        self._stop_deadline_s: float | None = None
        self._open(hot_dir, autostarted)

    def _open(self, hot_dir: Path | None, autostarted: bool) -> None:
        directory = self._directory
        self._hot, adopted = open_or_create(directory, hot_dir)
        if not adopted:
            unlink_doorbells(directory.bus_id_hex)
        bells = Bells(self._hot.control)
        self._bells = bells
        self._inventory = Inventory(directory, self._hot, bells, self.epoch)
        partitions = self._inventory.open_all()
        self._groups = Groups(directory, self._hot, bells, self._inventory.catalog)
        self._groups.open_all()
        self._registry = Registry(directory, self._hot, self._free_client)
        self._registry.probe_all()
        runtime = self._take_over(autostarted)
        self._keeper = Keeper(
            directory, self._hot, self._selector, self._config.partitions_per_replica
        )
        self._retainer = Retainer(directory, self._hot, self._inventory)
        self._sharing = Sharing(
            directory, self._hot, self._inventory, self._selector, self._config.shared
        )
        self._operations = self._make_operations(runtime)
        self._listen_for_signals()
        gc.collect()
        self._keeper.add([partition for partition in partitions if partition.is_replicated])
        self._listener = control.listen(directory)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        logger.info(
            "broker %s, epoch %d, %s %s with %d partitions in %s",
            __version__,
            self.epoch,
            "adopted" if adopted else "opened",
            directory.path,
            len(partitions),
            self._hot.path,
        )

    def _take_over(self, autostarted: bool) -> Runtime:
        """From here on clients that attach are ours."""
        self._hot.take_over(self.epoch)
        runtime = Runtime(
            hot_dir=str(self._hot.path),
            epoch=self.epoch,
            pid=os.getpid(),
            boot_id=boot_id(),
            hot_id=self._hot.hot_id,
            started=timestamp(),
            version=__version__,
            autostarted=autostarted,
        )
        self._directory.write_runtime(runtime)
        self._hot.publish()
        return runtime

    def _make_operations(self, runtime: Runtime) -> Operations:
        parts = (self._inventory, self._groups, self._keeper, self._registry)
        status = Status(self._directory, self._hot, runtime, *parts, self._retainer)
        return Operations(
            self._directory,
            self._hot,
            runtime,
            self._config,
            *parts,
            status,
            stop=self._begin_stop,
        )

    def _free_client(self, slot: int, generation: int) -> None:
        """Frees all that a dead client held, before its slot is freed."""
        for partition in self._inventory.partitions():
            partition.log.reap_readers(slot, generation)
        self._groups.reap(slot, generation)

    # ------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Serves until a stop is asked for, by signal, request or loneliness; then stops."""
        while not self._is_finished():
            for key, _ in self._selector.select(self._timeout_s()):
                callback: Callable[[], None] = key.data
                callback()
            now = time.monotonic()
            self._registry.probe_dying(now)
            if now - self._last_tick_s >= TICK_S:
                self._last_tick_s = now
                self._tick(now)
            self._keeper.tick()
            self._sharing.tick()
        self._finish()

    def _timeout_s(self) -> float:
        due = self._last_tick_s + TICK_S - time.monotonic()
        next_probe_s = self._registry.next_probe_s()
        if next_probe_s is not None:
            due = min(due, next_probe_s - time.monotonic())
        next_start_s = self._keeper.next_start_s()
        if next_start_s is not None and self._stop_deadline_s is None:
            due = min(due, next_start_s)
        return max(0.0, due)

    def _tick(self, now: float) -> None:
        self._registry.probe_all()
        self._inventory.tend_all()
        if now - self._last_sync_s >= self._config.offsets_sync_ms / 1000:
            self._last_sync_s = now
            self._groups.sync()
        if now - self._last_retention_s >= self._config.retention_check_ms / 1000:
            self._last_retention_s = now
            self._retainer.run()
        if self._ends_alone:
            self._end_if_alone(now)

    def _end_if_alone(self, now: float) -> None:
        """An autostarted broker ends when nobody is attached; records in memory keep it alive."""
        if self._registry.clients() or self._inventory.holds_memory_records():
            self._last_client_s = now
        elif now - self._last_client_s >= self._config.linger_s:
            logger.info("no client for %g s; the broker ends", self._config.linger_s)
            self._begin_stop()

    def _listen_for_signals(self) -> None:
        """Signals end the selector's sleep; what they ask for is done in the loop."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._signal_sockets = (reader, writer)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, self._on_signals)

    def _on_signals(self) -> None:
        for number in self._signal_sockets[0].recv(64):
            if number in STOP_SIGNALS:
                logger.info("%s: stopping", signal.Signals(number).name)
                self._begin_stop()

    def watch_owner(self, fd: int) -> None:
        """Ends like an autostarted broker once the other end of this pipe is closed."""

        def owner_is_gone() -> None:
            self._selector.unregister(fd)
            os.close(fd)
            self._ends_alone = True
            self._last_client_s = time.monotonic()
            logger.info("the process that started this broker is gone")

        self._selector.register(fd, selectors.EVENT_READ, owner_is_gone)

    def _accept(self) -> None:
        connection = Connection.accept(self._listener)
        if connection is None:
            return
        session = Session(connection)
        self._sessions.add(session)
        self._selector.register(
            connection.fileno(), selectors.EVENT_READ, lambda: self._serve(session)
        )

    def _serve(self, session: Session) -> None:
        connection = session.connection
        fd = connection.fileno()
        connection.flush()
        for request in connection.receive():
            self._answer(session, request)
        if connection.closed:
            self._selector.unregister(fd)
            self._forget(session)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_write else 0)
        self._selector.modify(fd, events, lambda: self._serve(session))

    def _answer(self, session: Session, request: Request) -> None:
        try:
            session.connection.reply(request, self._operations.answer(session, request))
        except BusError as error:
            session.connection.fail(request, error)
        except Exception as error:
            # Nothing that a client sends may end the broker of all the others.
            logger.exception("request %r of pid %d", request.op, session.connection.pid)
            session.connection.fail(request, error)

    def _forget(self, session: Session) -> None:
        self._sessions.discard(session)
        if session.is_client:
            self._registry.disconnected(session.slot, session.generation)

    def _begin_stop(self) -> None:
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

    def _is_finished(self) -> bool:
        if self._stop_deadline_s is None:
            return False
        if not self._keeper.is_idle and time.monotonic() >= self._stop_deadline_s:
            self._stop_deadline_s += self._config.stop_timeout_s + TICK_S
            self._keeper.kill()
        return self._keeper.is_idle

    def _finish(self) -> None:
        """All replicas have ended: leave a clean end on disk, and nothing elsewhere."""
        complete = self._inventory.store_clean_ends()
        self._groups.sync()
        for session in list(self._sessions):
            session.connection.close()
        self._listener.close()
        self._registry.close()
        self._remove(BROKER_SOCKET)
        if complete:
            self._inventory.mark_gone()
            unlink_doorbells(self._directory.bus_id_hex)
            self._hot.remove()
            self._remove(RUNTIME_FILE)
            logger.info("the bus in %s is stopped", self._directory.path)
        else:
            logger.error("%s is kept; the next broker makes it durable", self._hot.path)
        os.close(self._lock_fd)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory.fd)


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
        supervisor = Supervisor(
            directory, config or BrokerConfig(), hot_dir=hot_dir, autostarted=autostarted
        )
        if owner_fd is not None:
            supervisor.watch_owner(owner_fd)
        (starter or Starter(None)).tell({"pid": os.getpid(), "epoch": supervisor.epoch})
        supervisor.run()
    return EXIT_STOPPED


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bus.supervisor", description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--autostarted", action="store_true")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--owner-fd", type=int)
    parser.add_argument("--hot-dir", type=Path)
    parser.add_argument("--config", type=json.loads, default={})
    parser.add_argument("--log-file", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns its exit code."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
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
