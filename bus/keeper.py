"""Keeps a replica process running for every replicated partition.

Which partitions share a process is for `bus.crew` to say. Replicas are forked from the
single-threaded broker: cheap, and nearly all their memory is shared. One that dies is restarted at
once, one that keeps dying after growing pauses, one that stopped for damage not at all. A replica
of an earlier broker is adopted: its replica.lock is held, its pid stands in the control page, and a
pidfd tells when it ends.
"""

import logging
import os
import selectors
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from bus import replica_lock
from bus.autostart import is_readable
from bus.config import BrokerConfig
from bus.crew import FIRST_PAUSE_S, Crew, pause_s, share_out
from bus.directory import BusDirectory
from bus.errors import BusError
from bus.hotdir import HotDirectory
from bus.incidents import Incident
from bus.offspring import fork_child
from bus.open_partition import OpenPartition
from bus.replica import STATE_FAILED
from bus.replica_process import (
    EXIT_FAILED,
    ReplicaTask,
    replica_main,
)
from bus.scrub import ScrubRate

logger = logging.getLogger(__name__)

#: A replica that lived shorter than this is restarted after a pause, in seconds.
SHORT_LIFE_S: Final = 0.25
#: A killed process that waits for its disk is gone by then, in seconds.
KILL_TIMEOUT_S: Final = 10.0
#: A process that is to serve other partitions has so long to sync what it has, in seconds.
CHANGE_TIMEOUT_S: Final = 2.0


class Keeper:
    """Starts, adopts, restarts and stops the replica processes of one broker."""

    def __init__(
        self,
        directory: BusDirectory,
        hot: HotDirectory,
        selector: selectors.BaseSelector,
        config: BrokerConfig,
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._selector = selector
        self._crew_size = config.partitions_per_replica
        self._scrub = ScrubRate(config.scrub_interval_ms / 1000, config.scrub_bytes_per_s)
        self._crews: list[Crew] = []
        self._stopping = False
        #: replicas that died and were started again, replicas taken over from another broker
        self.restarts = 0
        self.adopted = 0

    # ------------------------------------------------------------------------------- starting

    def add(self, partitions: Iterable[OpenPartition]) -> None:
        """Takes charge of partitions: adopts the replicas that run, starts the others."""
        by_pid: dict[int, list[OpenPartition]] = {}
        idle: list[OpenPartition] = []
        for partition in partitions:
            pid = self._seen_holder(partition)
            if partition.log.replica_state == STATE_FAILED:
                logger.error("the replica of %s stopped for damage; it stays down", partition.name)
            elif pid is not None:
                by_pid.setdefault(pid, []).append(partition)
            else:
                idle.append(partition)
        for served in by_pid.values():
            self._adopt(Crew(served))
        self._share_out(idle)
        self.tick()

    def _share_out(self, idle: list[OpenPartition]) -> None:
        known = list(self._crews)
        sizes = [len(crew.partitions) for crew in known]
        new, added = share_out(idle, sizes, self._crew_size)
        self._crews += [Crew(partitions) for partitions in new]
        for place, partitions in added.items():
            known[place].partitions += partitions
            self._change(known[place])

    def _change(self, crew: Crew) -> None:
        """Asks its process, if there is one, to sync and end: the next one serves all."""
        if crew.pidfd >= 0 and not crew.is_changing:
            crew.is_changing = True
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(crew.pidfd, signal.SIGTERM)

    def _seen_holder(self, partition: OpenPartition) -> int | None:
        """None as well if it cannot be seen now: it is looked for again before a start."""
        try:
            return self._holder(partition)
        except (OSError, BusError) as error:
            logger.error("who follows %s cannot be seen: %s", partition.name, error)
            return None

    def _holder(self, partition: OpenPartition) -> int | None:
        with self._open_dir(partition) as dir_fd:
            return replica_lock.holder(dir_fd)

    @contextmanager
    def _open_dir(self, partition: OpenPartition) -> Iterator[int]:
        fd = self._directory.open_partition(partition.topic.name, partition.number)
        try:
            yield fd
        finally:
            os.close(fd)

    def _adopt(self, crew: Crew) -> None:
        """Watches a running replica. One that just took its lock may not have said its pid yet."""
        self._crews.append(crew)
        try:
            with self._open_dir(crew.partitions[0]) as dir_fd:
                watched = replica_lock.watch(dir_fd)
        except (OSError, BusError) as error:
            self._hot.incidents.note(
                Incident.CALL_RETRIED,
                "the replica of %s cannot be watched: %s; again at once",
                crew.name,
                error,
            )
            watched = None
        if watched is None:
            crew.start_at_s = time.monotonic() + FIRST_PAUSE_S
            return
        pid, pidfd = watched
        logger.info("adopted the replica of %s, pid %d", crew.name, pid)
        self.adopted += 1
        self._watch(crew, pid, pidfd, is_child=False)

    def tick(self) -> None:
        """Starts what is due."""
        now = time.monotonic()
        for crew in list(self._crews):
            if crew.start_at_s is not None and crew.start_at_s <= now and not self._stopping:
                try:
                    self._start(crew)
                except (OSError, BusError) as error:
                    self._start_later(crew, error)

    def _start_later(self, crew: Crew, error: Exception) -> None:
        """No process, memory or descriptor to be had: the partition's records wait, not the bus."""
        crew.short_lives += 1
        pause = pause_s(crew.short_lives)
        crew.start_at_s = time.monotonic() + pause
        self._hot.incidents.note(
            Incident.CALL_RETRIED,
            "no replica could be started for %s: %s; again in %g s",
            crew.name,
            error,
            pause,
        )

    def next_start_s(self) -> float | None:
        """Seconds until the next start is due; None if none is."""
        due = [crew.start_at_s for crew in self._crews if crew.start_at_s is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start(self, crew: Crew) -> None:
        if held := self._held(crew.partitions):
            self._split(crew, held)
            return
        tasks = [
            ReplicaTask(partition.topic, partition.number, self._scrub)
            for partition in crew.partitions
        ]
        pid = fork_child(
            "bus-replica",
            [self._directory.fd, self._hot.fd],
            partial(replica_main, self._directory, self._hot, tasks),
        )
        crew.started_s = time.monotonic()
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # nobody would learn of its end
            os.waitpid(pid, 0)
            raise
        self._watch(crew, pid, pidfd, is_child=True)

    def _held(self, partitions: Iterable[OpenPartition]) -> dict[int, list[OpenPartition]]:
        """Those that a replica holds already, by its pid; 0: it did not say it yet."""
        held: dict[int, list[OpenPartition]] = {}
        for partition in partitions:
            if (pid := self._holder(partition)) is not None:
                held.setdefault(pid, []).append(partition)
        return held

    def _split(self, crew: Crew, held: dict[int, list[OpenPartition]]) -> None:
        """Adopts those who follow some of its partitions; the rest are started at the next tick."""
        self._crews.remove(crew)
        for served in held.values():
            self._adopt(Crew(served))
            crew.partitions = [one for one in crew.partitions if one not in served]
        if crew.partitions:
            self._crews.append(crew)

    def _watch(self, crew: Crew, pid: int, pidfd: int, *, is_child: bool) -> None:
        crew.pid, crew.pidfd, crew.is_child = pid, pidfd, is_child
        crew.start_at_s = None
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._on_exit(crew))

    # --------------------------------------------------------------------------------- ending

    def _on_exit(self, crew: Crew) -> None:
        self._selector.unregister(crew.pidfd)
        os.close(crew.pidfd)
        status = _exit_status(crew)
        logger.info("the replica of %s, pid %d, ended (%s)", crew.name, crew.pid, status)
        pid = crew.pid
        crew.pid, crew.pidfd = 0, -1
        crew.partitions = [partition for partition in crew.partitions if _needs_replica(partition)]
        if not crew.partitions:
            self._crews.remove(crew)
        elif crew.is_changing:
            crew.is_changing = False
            crew.start_at_s = time.monotonic()
        elif not self._stopping:
            self._restart(crew, f"pid {pid} ended ({status})")

    def _restart(self, crew: Crew, cause: str) -> None:
        lived_s = time.monotonic() - crew.started_s
        crew.short_lives = crew.short_lives + 1 if lived_s < SHORT_LIFE_S else 0
        crew.restarts += 1
        self.restarts += 1
        pause = pause_s(crew.short_lives)
        crew.start_at_s = time.monotonic() + pause
        self._hot.incidents.note(
            Incident.REPLICA_RESTARTED,
            "the replica of %s is started again in %g s: %s",
            crew.name,
            pause,
            cause,
        )
        self.tick()

    def remove(self, topic_id: int) -> None:
        """Ends the replicas of a topic whose partitions are marked as deleted; waits for that."""
        for crew in list(self._crews):
            if not any(partition.topic.id == topic_id for partition in crew.partitions):
                continue
            if crew.pidfd >= 0:
                self._end(crew, topic_id)  # the loop does the rest
            else:
                crew.partitions = [p for p in crew.partitions if p.topic.id != topic_id]
                if not crew.partitions:
                    self._crews.remove(crew)

    def _end(self, crew: Crew, topic_id: int) -> None:
        """Of a crew that serves other topics as well, in order if it does not take long."""
        if any(partition.topic.id != topic_id for partition in crew.partitions):
            self._change(crew)
            if is_readable(crew.pidfd, CHANGE_TIMEOUT_S):
                return
        signal.pidfd_send_signal(crew.pidfd, signal.SIGKILL)
        is_readable(crew.pidfd, KILL_TIMEOUT_S)

    def begin_stop(self) -> None:
        """Asks every replica to sync what it has and end."""
        self._stopping = True
        for crew in self._running():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(crew.pidfd, signal.SIGTERM)

    def pids(self) -> list[int]:
        """The replica processes that run."""
        return [crew.pid for crew in self._running()]

    def kill(self) -> None:
        """Ends every replica at once, synced or not."""
        for crew in self._running():
            logger.error("the replica of %s did not end in time; it is killed", crew.name)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(crew.pidfd, signal.SIGKILL)

    @property
    def is_idle(self) -> bool:
        """True if no replica process runs."""
        return not any(True for _ in self._running())

    def _running(self) -> Iterator[Crew]:
        return (crew for crew in self._crews if crew.pidfd >= 0)

    # --------------------------------------------------------------------------------- asking

    def restarts_of(self, partition: OpenPartition) -> int:
        """How often the partition's replica was restarted by this broker."""
        return sum(crew.restarts for crew in self._crews if partition in crew.partitions)


def _needs_replica(partition: OpenPartition) -> bool:
    return not partition.is_deleted and partition.log.replica_state != STATE_FAILED


def _exit_status(crew: Crew) -> str:
    if not crew.is_child:
        return "adopted, its status is unknown"
    _, status = os.waitpid(crew.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return "stopped for damage" if code == EXIT_FAILED else f"exit code {code}"
