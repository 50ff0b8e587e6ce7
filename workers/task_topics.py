"""The two topics of an executor, and the bus that they are on."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bus import Admin, NewTopic
from bus.errors import GroupIdNotFoundError, NonEmptyGroupError
from workers.board import PLACE
from workers.private_bus import PrivateBus

#: Tasks and their arguments that wait, or results that nobody has fetched: a sender waits then.
HOT_BYTES: Final = 512 << 20
#: Workers whose executor was killed end within this time.
ORPHANS_S: Final = 40.0
#: One task with its arguments, or one result.
MESSAGE_BYTES_MAX: Final = 1 << 30
#: A name is a part of names of topics, and of a file.
NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_DURABLE: Final[Mapping[str, object]] = {
    "overflow": "block",
    "retention.ms": -1,  # DurableDispatch deletes what nobody wants any more
    "max.message.bytes": MESSAGE_BYTES_MAX,
}
_CONFIGS: Final[Mapping[str, object]] = {
    "durability": "memory",
    "overflow": "block",
    "hot.bytes": HOT_BYTES,
    "max.message.bytes": MESSAGE_BYTES_MAX,
}


class TaskTopics:
    """Made for one executor. Attributes: `address`, `tasks`, `results`, `group`, `bus_id`."""

    def __init__(
        self, bootstrap_servers: "str | os.PathLike[str] | None", name: str | None = None
    ) -> None:
        """Makes the topics; a private bus for them if there is no address. Raises BusError.

        name: of a durable executor, whose topics are made, or found, by `make`: its tickets come
        first, and who holds their lock is alone.
        """
        self._bus = PrivateBus() if bootstrap_servers is None else None
        self.address = str(self._bus.path if self._bus else bootstrap_servers)
        self.group = f"executor.{name or os.urandom(6).hex()}"
        self.tasks = f"{self.group}.tasks"
        self.results = f"{self.group}.results"
        try:
            with Admin(self.address) as admin:
                self.bus_id: str = admin.describe_cluster()["cluster_id"]
                if name is None:
                    self._create(admin, _CONFIGS)
        except BaseException:
            if self._bus is not None:
                self._bus.close()
            raise

    def make(self) -> None:
        """Those of a durable executor that are not there. Raises BusError."""
        with Admin(self.address) as admin:
            self._create(admin, _DURABLE)

    def _create(self, admin: Admin, configs: Mapping[str, object]) -> None:
        there = admin.list_topics()
        wanted = [name for name in (self.tasks, self.results) if name not in there]
        admin.create_topics([NewTopic(name, topic_configs=configs) for name in wanted])

    def tickets_name(self) -> Path:
        """Where a durable executor keeps its tickets."""
        return PLACE / f"{self.group}.{self.bus_id}.tickets"

    def forget_group(self) -> None:
        """Tasks that are in the log will come again, all of them.

        Waits for workers of an executor that was killed. Raises NonEmptyGroupError.
        """
        deadline = time.monotonic() + ORPHANS_S
        with Admin(self.address) as admin:
            while True:
                try:
                    admin.delete_groups([self.group])
                    return
                except GroupIdNotFoundError:
                    return
                except NonEmptyGroupError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)

    def close(self) -> None:
        """Deletes the topics and the group, or the whole bus. Raises BusError, OSError."""
        if self._bus is not None:
            self._bus.close()
            return
        with Admin(self.address) as admin:
            admin.delete_topics([self.tasks, self.results])
            try:
                admin.delete_groups([self.group])
            except GroupIdNotFoundError:
                return  # no worker has ever come to be
