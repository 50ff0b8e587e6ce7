"""What a producer does while the log has no room: wait, help, and say who holds it back.

    no file for the next segment   the broker is asked, again and again; a dead one is started anew
    the replica is behind          wait for its next high watermark
    a reader is behind             wait for it; if its process is proven dead, free its place
    the offset limit is reached    the broker is asked to raise it
    a group of consumers lags      look how far it is (bus/lag_gate.py); wait for its next commit

The append is tried again after every wait; nothing here decides whether there is room.
"""

import logging
import os
import time
from typing import Final

from bus.catalog import Topic
from bus.client import Client
from bus.errors import (
    BackpressureError,
    BrokerNotRunningError,
    BusError,
    CorruptSegmentError,
    UnknownTopicOrPartitionError,
)
from bus.files import path_of
from bus.holder import describe_replica, if_stopped
from bus.lag_gate import LagGate
from bus.lag_report import LagReport
from bus.liveness import client_row, is_dead
from bus.native.core import LAYOUT, Partition

logger = logging.getLogger(__name__)

WAIT_SPARE: Final = LAYOUT["BUS_WAIT_SPARE"]
WAIT_REPLICA: Final = LAYOUT["BUS_WAIT_REPLICA"]
WAIT_READER: Final = LAYOUT["BUS_WAIT_READER"]
WAIT_OFFSETS: Final = LAYOUT["BUS_WAIT_OFFSETS"]
WAIT_LAG: Final = LAYOUT["BUS_WAIT_LAG"]
RING_SLOTS: Final = LAYOUT["BUS_RING_SLOTS"]
TOPIC_DELETED: Final = LAYOUT["BUS_TOPIC_DELETED"]

#: one wait; afterwards the broker is asked again and the holder's life is looked at, in ms
SLICE_MS: Final = 100.0
#: after its deadline an append goes on trying while others take the room that it sees, in ms
CONTEST_MS: Final = 1000.0


class Backpressure:
    """The waiting side of one partition's appends: `Partition.blocked` and `.attention`."""

    def __init__(self, client: Client, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._broker_error: BusError | None = None
        self._gates: dict[int, LagGate] = {}

    def attach(self, partition: Partition) -> Partition:
        """Let this partition's appends wait here."""
        partition.blocked = self.blocked
        partition.attention = self.attention
        return partition

    def attention(self, partition: Partition, need: int) -> None:
        """Ask the broker to look after the partition's hot files and offset limit."""
        try:
            self._client.send(
                "tend", topic=partition.topic_id, partition=partition.partition, need=need
            )
            self._broker_error = None
        except BusError as error:
            # The append itself succeeded, or goes on waiting: a missing broker is no failure yet.
            logger.debug("broker cannot be asked to tend %s: %s", self._topic, error)
            self._broker_error = error

    def blocked(self, partition: Partition, status: int, detail: int, deadline_ns: int) -> None:
        """Sleep a while, or raise what makes waiting pointless.

        Raises BackpressureError after the deadline, BrokerNotRunningError when the bus was
        stopped, UnknownTopicOrPartitionError when the topic was deleted.
        """
        if self._client.stopping:
            raise BrokerNotRunningError(
                f"the bus in {self._client.directory.path} was stopped; nothing was stored"
            )
        if status == TOPIC_DELETED:
            raise UnknownTopicOrPartitionError(f"topic {self._topic!r} was deleted")
        if status == WAIT_LAG:
            self._wait_for_consumers(partition, deadline_ns)
            return
        if status not in (WAIT_SPARE, WAIT_REPLICA, WAIT_READER, WAIT_OFFSETS):
            raise CorruptSegmentError(
                f"the control page of {self._topic}-{partition.partition} contradicts itself; stop"
                " the bus, run 'bus check', and start it again"
            )
        left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
        if left_ms <= 0:
            raise BackpressureError(self._reason(partition, status, detail))
        if status == WAIT_OFFSETS:  # for a spare, the append itself has asked
            self.attention(partition, 0)
        if status == WAIT_READER and self._reap(partition, detail):
            return
        self._sleep(partition, left_ms)

    def _sleep(self, partition: Partition, left_ms: float) -> None:
        try:
            partition.wait_space(min(left_ms, SLICE_MS))
        except BrokerNotRunningError:
            self._client.ensure()  # closed meanwhile: then that is the cause
            raise

    def _wait_for_consumers(self, partition: Partition, deadline_ns: int) -> None:
        """The sleeper's bit is set already, so a commit behind this look ends the sleep."""
        gate = self._gate(partition).look()
        left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
        if not gate.holds(partition) and left_ms > -CONTEST_MS:
            return
        if left_ms <= 0:
            client = self._client
            report = LagReport(client.hot_fd, client.control, client.slot.fd)
            raise BackpressureError(report.sentence(self._topic, partition, gate))
        self._sleep(partition, left_ms)

    def _gate(self, partition: Partition) -> LagGate:
        found = self._gates.get(partition.partition)
        if found is None:
            found = LagGate(
                self._client.directory, partition, self._current, self._client.catalog_version
            )
            self._gates[partition.partition] = found
        return found

    def _current(self) -> Topic:
        return self._client.topic(self._topic)

    def _reap(self, partition: Partition, index: int) -> bool:
        """Free the place of a reader whose process is proven dead."""
        for reader in partition.readers():
            if reader.index == index and is_dead(self._probe_fd(), reader.client):
                partition.reap_readers(reader.client, reader.generation)
                return True
        return False

    def _probe_fd(self) -> int:
        return self._client.slot.fd

    def _reason(self, partition: Partition, status: int, detail: int) -> str:
        where = f"{self._topic}-{partition.partition}"
        if status == WAIT_READER:
            holder = self._holder(partition, detail)
            return f"{where} is full: {holder} has not consumed its records"
        if status == WAIT_REPLICA:
            return f"{where} is full: {describe_replica(partition)}"
        broker = f": {self._broker_error}" if self._broker_error else ""
        wanted = "a new hot segment" if status == WAIT_SPARE else "more offsets"
        pid = self._client.control.load32_acquire(LAYOUT["bus_control.broker_pid"])
        full = self._held(partition) or self._full(partition) if status == WAIT_SPARE else ""
        stopped = if_stopped(pid)
        return f"{where} waits for {wanted} from the broker (pid {pid}){stopped}{full}{broker}"

    def _full(self, partition: Partition) -> str:
        """Says so if the hot directory's filesystem may have no room for the next segment."""
        place = os.fstatvfs(self._client.hot_fd)
        free = place.f_bavail * place.f_frsize
        if free >= partition.segment_bytes:
            return ""
        where = path_of(self._client.hot_fd)
        return f", which has only {free} bytes left in {where}: free some there"

    def _held(self, partition: Partition) -> str:
        """Says so if what programs hold takes every place of the ring: no file may come there."""
        readers = [reader for reader in partition.readers() if reader.pins]
        used = {slot.slot for slot in partition.ring()}
        for reader in readers:
            used |= {slot for slot in range(RING_SLOTS) if reader.pins >> slot & 1}
        if not readers or len(used) < RING_SLOTS:
            return ""
        most = max(readers, key=lambda reader: reader.pins.bit_count())
        return (
            f", which has no place for it: all {RING_SLOTS} of the ring are taken by segments whose"
            f" records or views programs hold, {most.pins.bit_count()} of them"
            f" {self._client.describe_holder(most.client)}; drop some, or hold copies"
        )

    def _holder(self, partition: Partition, index: int) -> str:
        for reader in partition.readers():
            if reader.index == index:
                pid = client_row(self._client.control, reader.client).pid
                holder = self._client.describe_holder(reader.client)
                return f"consumer {holder}{if_stopped(pid)}"
        return "a consumer that has just gone"
