"""The process around a replica: its locks, its signals, its end.

A replica process is forked from the broker and outlives it: `acks="all"` goes on while the
broker is down, and the next broker adopts the replica. It ends

    by SIGTERM          after it has copied and synced what was there when the signal came;
    alone               when the broker and all clients are gone and everything is synced;
    for good            when it met damage: replica-report.json says what, the state is FAILED.

Of the descriptors that it inherits it keeps the two directories alone.
"""

import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from bus import replica_lock
from bus.catalog import Topic
from bus.directory import BROKER_LOCK, BusDirectory, timestamp
from bus.errors import BrokerNotRunningError, BusError, UnknownTopicOrPartitionError
from bus.hotdir import HotDirectory
from bus.incidents import Incident
from bus.liveness import ROLE_REPLICA, ClientSlot, client_rows, is_dead
from bus.native.core import Bells, Partition
from bus.offspring import EXIT_ERROR, SIGNALS
from bus.porter import IDLE_MS, Porter
from bus.replica import STATE_FAILED, STATE_RUNNING, Follower, FollowerFailedError
from bus.scrub import Scrubber, ScrubRate
from bus.stop_request import Stop

logger = logging.getLogger(__name__)

REPORT_FILE: Final = "replica-report.json"

#: The shortest sleep, while a scrub is due that another partition's keeps waiting.
SHORTEST_MS: Final = 50.0
#: The same, and the longest one, of a thread that is one of many.
SHORTEST_OF_MANY_MS: Final = 2_000.0
LONGEST_MS: Final = 3_600_000.0

EXIT_DONE: Final = 0
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


class Berth:
    """What a replica process is on the bus: its client slot, and how its threads sleep."""

    def __init__(self, directory: BusDirectory, hot: HotDirectory, name: str) -> None:
        self.stop = Stop()
        self._hot = hot
        self._broker_lock = directory.open_lock(BROKER_LOCK)
        self._clients_lock = directory.open_clients_lock()
        self._slot = ClientSlot.take(directory, hot.control, ROLE_REPLICA, name)
        self._bells = Bells(hot.control)
        self.porter: Porter | None = None

    def leave(self) -> None:
        """Gives the client slot back."""
        self._slot.release()

    def share(self) -> Porter:
        """From now on each partition has a thread of its own."""
        self.porter = Porter(self._hot.fd, self._bells, self._slot.slot, self.stop)
        return self.porter

    def open(self, task: "ReplicaTask") -> Partition:
        """The hot log to follow."""
        if self.porter is not None:
            return self.porter.lodge(task.topic.id, task.partition)
        log_of = (self._hot.fd, task.topic.id, task.partition)
        return Partition(*log_of, self._bells, self._slot.slot)

    def sleep(self, follower: Follower, longest_ms: float) -> bool:
        """Waits for records; True if there are some."""
        if self.porter is not None:
            return follower.wait(min(max(longest_ms, SHORTEST_OF_MANY_MS), LONGEST_MS))
        timeout_ms = min(max(longest_ms, SHORTEST_MS), IDLE_MS)
        return self.stop.sleep(lambda: follower.wait(timeout_ms))

    def is_alone(self) -> bool:
        """True if neither a broker nor a client is alive (the locks say so)."""
        if self.porter is not None:
            return self.porter.is_alone
        return self.sees_nobody()

    def sees_nobody(self) -> bool:
        """The same, with a look at the locks."""
        if self.stop.requested or not is_dead(self._broker_lock, 0):
            return False
        return all(
            row.role == ROLE_REPLICA or is_dead(self._clients_lock, row.slot)
            for row in client_rows(self._hot.control)
        )


class Attendant:
    """Follows one partition until it is told to stop, or alone, or stopped by damage."""

    def __init__(
        self, directory: BusDirectory, hot: HotDirectory, task: ReplicaTask, berth: Berth
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._task = task
        self._berth = berth
        # A description of its own: byte 1 is for one partition's scrub at a time.
        self._broker_lock = directory.open_lock(BROKER_LOCK)

    def run(self) -> int:
        """Follows; returns the exit code of the process."""
        dir_fd = self._directory.open_partition(self._task.topic.name, self._task.partition)
        if replica_lock.take(dir_fd) is None:
            return EXIT_HELD
        log = self._berth.open(self._task)
        log.set_replica(os.getpid(), STATE_RUNNING)
        follower = Follower(
            log,
            dir_fd,
            is_stopping=lambda: self._berth.stop.requested,
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
        return EXIT_DONE

    def _follow(self, follower: Follower, log: Partition, scrubber: Scrubber) -> None:
        until = None
        while True:
            scrubber.tick()
            if follower.step():
                if until is not None and log.high_watermark >= until:
                    return
                continue
            if self._berth.stop.requested:
                if until is not None or log.high_watermark >= log.log_end_offset:
                    return
                until = log.log_end_offset
            elif not self._berth.sleep(follower, scrubber.due_ms) and self._berth.is_alone():
                logger.info("replica of %s ends: nobody uses the bus", self._task.name)
                return

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


def replica_main(directory: BusDirectory, hot: HotDirectory, tasks: Sequence[ReplicaTask]) -> int:
    """The life of a replica process (see `bus.offspring`); returns its exit code."""
    first = tasks[0].name.encode()[:48].decode(errors="ignore")
    more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
    # Ctrl-C reaches the whole foreground group; the broker stops its replicas in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    berth = Berth(directory, hot, f"replica {first}{more}")
    signal.signal(signal.SIGTERM, berth.stop.on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        if len(tasks) == 1:
            return Attendant(directory, hot, tasks[0], berth).run()
        porter = berth.share()
        return _run_threads(
            [Attendant(directory, hot, task, berth) for task in tasks], berth, porter
        )
    finally:
        berth.leave()


def _run_threads(attendants: Sequence[Attendant], berth: Berth, porter: Porter) -> int:
    """A thread for each partition; damage in one stops that one alone."""
    codes: list[int] = []

    def run(attendant: Attendant) -> None:
        code = EXIT_ERROR
        try:
            code = attendant.run()
        except Exception:
            logger.exception("a replica died; the process ends, the broker starts another one")
        codes.append(code)
        # Whom another process follows, that one cannot be waited for here: the broker sorts it out.
        if code in (EXIT_ERROR, EXIT_HELD):
            berth.stop.requested = True

    porter.serve([partial(run, attendant) for attendant in attendants], berth.sees_nobody)
    return EXIT_ERROR if EXIT_ERROR in codes else max(codes)
