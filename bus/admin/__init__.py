"""Admin: topics, groups, offsets and the state of a bus, with kafka-python's names.

handle   being attached                   topics   TopicAdmin
groups   GroupAdmin, OffsetSpec
"""

from typing import Any

from bus.admin.groups import GroupAdmin, OffsetSpec
from bus.admin.topics import TopicAdmin

__all__ = ["Admin", "OffsetSpec"]


class Admin(TopicAdmin, GroupAdmin):
    """Administers the bus in a directory; results are plain dicts and lists, as in kafka-python 3.

    `Admin(bootstrap_servers=None, *, client_id="bus-admin", request_timeout_ms=30_000,
    autostart=True)`. A context manager.
    """

    def describe_cluster(self) -> dict[str, Any]:
        """The bus as a cluster of one broker: {"cluster_id", "controller_id", "brokers"}."""
        directory = self._client.directory
        broker = self.status()["broker"]
        return {
            "cluster_id": directory.bus_id_hex,
            "controller_id": 0,
            "brokers": [{"broker_id": 0, "host": str(directory.path), "pid": broker["pid"]}],
        }

    def status(self) -> dict[str, Any]:
        """Broker, replicas, clients and counters: what `bus status --json` prints."""
        return self._client.call("status")

    def stop_broker(self) -> None:
        """Ask the broker to end cleanly; it syncs all records first. Returns when it agreed."""
        self._client.call("stop")
