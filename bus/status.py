"""What `bus status` shows: a snapshot of the broker's knowledge as plain values."""

from typing import Any

from bus import __version__
from bus.directory import BusDirectory, Runtime
from bus.groups import Groups
from bus.hotdir import HotDirectory
from bus.inventory import Inventory
from bus.keeper import Keeper
from bus.lag_report import LagReport
from bus.open_partition import OpenPartition
from bus.registry import Registry
from bus.replica import STATE_FAILED, STATE_RUNNING
from bus.retainer import Retainer

#: Counters of a partition's control page that are summed over all partitions.
PARTITION_COUNTERS = ("deaths_repaired", "rolls", "recycled", "dropped_records", "corrupt_frames")
STATE_NAMES = {STATE_RUNNING: "running", STATE_FAILED: "failed"}


class Status:
    """Collects the status from the parts of a broker."""

    def __init__(
        self,
        directory: BusDirectory,
        hot: HotDirectory,
        runtime: Runtime,
        inventory: Inventory,
        groups: Groups,
        keeper: Keeper,
        registry: Registry,
        retainer: Retainer,
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._runtime = runtime
        self._inventory = inventory
        self._groups = groups
        self._keeper = keeper
        self._registry = registry
        self._retainer = retainer

    def collect(self) -> dict[str, Any]:
        """The whole status. Offsets count records, sizes are bytes."""
        return {
            "broker": {
                "pid": self._runtime.pid,
                "epoch": self._runtime.epoch,
                "version": __version__,
                "started": self._runtime.started,
                "autostarted": self._runtime.autostarted,
            },
            "data_dir": str(self._directory.path),
            "hot_dir": str(self._hot.path),
            "hot_bytes": self._hot_bytes(),
            "topics": len(self._inventory.topics()),
            "groups": len(list(self._groups)),
            "replicas": [
                self._replica(partition)
                for partition in self._inventory.partitions()
                if partition.is_replicated
            ],
            "lag": self._lag(),
            "clients": [
                {"pid": row.pid, "client_id": row.client_id, "role": row.role_name}
                for row in self._registry.clients()
            ],
            "counters": self._counters(),
        }

    def _hot_bytes(self) -> int:
        partitions = self._inventory.partitions()
        return sum(slot.bytes for partition in partitions for slot in partition.log.ring())

    def _replica(self, partition: OpenPartition) -> dict[str, Any]:
        log = partition.log
        return {
            "topic": partition.topic.name,
            "partition": partition.number,
            "pid": log.replica_pid,
            "state": STATE_NAMES.get(log.replica_state, "starting"),
            "log_end_offset": log.log_end_offset,
            "high_watermark": log.high_watermark,
            "restarts": self._keeper.restarts_of(partition),
            "fsync_ns": log.replica_fsync_ns,
            "sync_ms": log.replica_sync_ms,
        }

    def _lag(self) -> list[dict[str, Any]]:
        """Groups that hold producers up now."""
        report = LagReport(self._hot.fd, self._hot.control, self._registry.lock_fd)
        rows: list[dict[str, Any]] = []
        for partition in self._inventory.partitions():
            topic, log = partition.topic, partition.log
            if topic.config.lag_limited:
                rows += report.rows(self._directory, topic, log)
        return [row for row in rows if row["holds_up"]]

    def _counters(self) -> dict[str, int]:
        counters = dict.fromkeys(PARTITION_COUNTERS, 0)
        for partition in self._inventory.partitions():
            for name, value in partition.log.counters.items():
                counters[name] = counters.get(name, 0) + value
        return (
            counters
            | self._hot.incidents.counts()
            | {
                "replica_restarts": self._keeper.restarts,
                "replicas_adopted": self._keeper.adopted,
                "partitions_recovered": self._inventory.recovered,
                "partitions_adopted": self._inventory.adopted,
                "clients_reaped": self._registry.reaped,
                "spares_made": self._inventory.rings.spares_made,
                "spares_failed": self._inventory.rings.spares_failed,
                "segments_deleted": self._retainer.deleted,
                "segments_rolled_for_age": self._retainer.rolled,
            }
        )
