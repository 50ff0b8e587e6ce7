"""The process around a replica: its locks, its signals, its end.

A replica process is forked from the broker and outlives it: `acks="all"` goes on while the
broker is down, and the next broker adopts the replica. It ends

    by SIGTERM          after it has copied and synced what was there when the signal came;
    alone               when the broker and all clients are gone and everything is synced;
    for good            when it met damage: replica-report.json says what, the state is FAILED.

It closes every descriptor it inherited but the two directories: an inherited broker.lock or
client socket would keep dead processes looking alive.
"""

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bus import replica_lock
from bus.catalog import Topic
from bus.directory import BROKER_LOCK, BusDirectory, timestamp
from bus.errors import BrokerNotRunningError, BusError, UnknownTopicOrPartitionError
from bus.hotdir import HotDirectory
from bus.incidents import Incident
from bus.liveness import ROLE_REPLICA, ClientSlot, client_rows, is_dead
from bus.native.core import Bells, Partition
from bus.replica import STATE_FAILED, STATE_RUNNING, Follower, FollowerFailedError
from bus.scrub import Scrubber, ScrubRate

logger = logging.getLogger(__name__)

REPORT_FILE: Final = "replica-report.json"

#: The longest sleep of an idle replica; then it looks whether it is needed still.
IDLE_MS: Final = 2_000.0
#: The shortest one, while a scrub is due that another partition's keeps waiting.
SHORTEST_MS: Final = 50.0

EXIT_DONE: Final = 0
#: An unexpected error: the broker starts another replica.
EXIT_ERROR: Final = 1
#: Damage: a human is needed, no restart.
EXIT_FAILED: Final = 3
#: Another replica holds the partition.
EXIT_HELD: Final = 4


@dataclass(frozen=True, slots=True)
class ReplicaTask:
    """One partition to follow."""

    topic: Topic
    partition: int
    scrub: ScrubRate

    @property
    def name(self) -> str:
        return f"{self.topic.name}-{self.partition}"

    def path(self, file: str) -> str:
        """A file of the partition, relative to the bus directory."""
        return f"topics/{self.topic.name}/{self.partition}/{file}"


class StopRequested(Exception):
    """Raised out of a sleep by SIGTERM; never raised anywhere else."""


class Stop:
    """Remembers that SIGTERM came, and ends the main thread's sleep at once."""

    def __init__(self) -> None:
        self.requested = False
        self._sleeping = False

    def on_signal(self, _number: int, _frame: object) -> None:
        self.requested = True
        if self._sleeping:
            self._sleeping = False
            raise StopRequested

    def sleep(self, follower: Follower, timeout_ms: float) -> bool:
        """Waits for records in the main thread; True if there are some."""
        with suppress(StopRequested):
            self._sleeping = True
            # A signal before that store is seen here, one after it raises.
            found = not self.requested and follower.wait(timeout_ms)
            self._sleeping = False
            return found
        return False


class Attendant:
    """Follows one partition until it is told to stop, or alone, or stopped by damage."""

    def __init__(self, directory: BusDirectory, hot: HotDirectory, task: ReplicaTask) -> None:
        self._directory = directory
        self._hot = hot
        self._task = task
        self._stop = Stop()
        self._broker_lock = directory.open_lock(BROKER_LOCK)
        self._clients_lock = directory.open_clients_lock()

    def run(self, stop: Stop) -> int:
        """Follows; returns the exit code of the process."""
        self._stop = stop
        dir_fd = self._directory.open_partition(self._task.topic.name, self._task.partition)
        if replica_lock.take(dir_fd) is None:
            return EXIT_HELD
        name = f"replica {self._task.name}".encode()[:64].decode(errors="ignore")
        slot = ClientSlot.take(self._directory, self._hot.control, ROLE_REPLICA, name)
        bells = Bells(self._hot.control)
        log = Partition(self._hot.fd, self._task.topic.id, self._task.partition, bells, slot.slot)
        log.set_replica(os.getpid(), STATE_RUNNING)
        follower = Follower(
            log,
            dir_fd,
            is_stopping=lambda: stop.requested,
            incidents=self._hot.incidents,
        )
        scrubber = Scrubber(
            log,
            dir_fd,
            self._broker_lock,
            self._task.scrub,
            self._hot.incidents,
            name=self._task.name,
            newest=lambda: follower.newest,
            copy_newest=follower.copy_newest,
        )
        try:
            follower.resume()
            self._follow(follower, log, scrubber)
        except FollowerFailedError as error:
            self._report(error)
            log.set_replica(os.getpid(), STATE_FAILED)
            log.ring_durable()
            log.ring_space()
            return EXIT_FAILED
        except (BrokerNotRunningError, UnknownTopicOrPartitionError) as gone:
            logger.info("replica of %s ends: %s", self._task.name, gone)
        finally:
            scrubber.close()
            slot.release()
        return EXIT_DONE

    def _follow(self, follower: Follower, log: Partition, scrubber: Scrubber) -> None:
        until = None
        while True:
            scrubber.tick()
            if follower.step():
                if until is not None and log.high_watermark >= until:
                    return
                continue
            if self._stop.requested:
                if until is not None or log.high_watermark >= log.log_end_offset:
                    return
                until = log.log_end_offset
            elif not self._sleep(follower, scrubber.due_ms) and self._is_alone():
                logger.info("replica of %s ends: nobody uses the bus", self._task.name)
                return

    def _sleep(self, follower: Follower, longest_ms: float) -> bool:
        timeout_ms = min(IDLE_MS, max(longest_ms, SHORTEST_MS))
        if threading.current_thread() is threading.main_thread():
            return self._stop.sleep(follower, timeout_ms)
        return follower.wait(timeout_ms)

    def _is_alone(self) -> bool:
        """True if neither a broker nor a client is alive (the locks say so)."""
        if self._stop.requested or not is_dead(self._broker_lock, 0):
            return False
        return all(
            row.role == ROLE_REPLICA or is_dead(self._clients_lock, row.slot)
            for row in client_rows(self._hot.control)
        )

    def _report(self, error: FollowerFailedError) -> None:
        self._hot.incidents.note(
            Incident.REPLICA_STOPPED,
            "replica of %s stops for good at offset %d (segment %d, position %d): %s",
            self._task.name,
            error.offset,
            error.segment,
            error.position,
            error.reason,
        )
        report = {
            "reason": error.reason,
            "offset": error.offset,
            "segment": error.segment,
            "position": error.position,
            "time": timestamp(),
        }
        try:
            self._directory.write_json(self._task.path(REPORT_FILE), report)
        except BusError as unwritten:
            logger.error("the report could not be written: %s", unwritten)


def close_inherited(keep: Iterable[int]) -> None:
    """Closes every descriptor above stderr but those in `keep`."""
    low = 3
    for fd in sorted(fd for fd in keep if fd > 2):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def replica_main(directory: BusDirectory, hot: HotDirectory, tasks: Sequence[ReplicaTask]) -> int:
    """The life of a replica process, right after the fork; returns its exit code.

    SIGTERM and SIGINT are blocked when this is called.
    """
    gc.freeze()  # what the broker made stays as it is, so its pages stay shared
    close_inherited([directory.fd, hot.fd])
    stop = Stop()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, stop.on_signal)
    # Ctrl-C reaches the whole foreground group; the broker stops its replicas in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write("bus-replica")
    attendants = [Attendant(directory, hot, task) for task in tasks]
    if len(attendants) == 1:
        return attendants[0].run(stop)
    return _run_threads(attendants, stop)


def _run_threads(attendants: Sequence[Attendant], stop: Stop) -> int:
    """One thread, and one client slot, per partition; damage in one stops that one alone."""
    codes: list[int] = []

    def run(attendant: Attendant) -> None:
        try:
            codes.append(attendant.run(stop))
        except Exception:
            logger.exception("a replica died; the process ends, the broker starts another one")
            codes.append(EXIT_ERROR)
            stop.requested = True

    threads = [threading.Thread(target=run, args=(attendant,)) for attendant in attendants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return EXIT_ERROR if EXIT_ERROR in codes else max(codes)
