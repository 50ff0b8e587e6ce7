"""The two topics of an executor, and the bus that they are on."""

import os
from typing import Final

from bus import Admin, NewTopic
from bus.errors import GroupIdNotFoundError
from workers.private_bus import PrivateBus

#: Tasks and their arguments that wait, or results that nobody has fetched: a sender waits then.
HOT_BYTES: Final = 512 << 20
#: One task with its arguments, or one result.
MESSAGE_BYTES_MAX: Final = 1 << 30
_CONFIGS: Final = {
    "durability": "memory",
    "overflow": "block",
    "hot.bytes": HOT_BYTES,
    "max.message.bytes": MESSAGE_BYTES_MAX,
}


class TaskTopics:
    """Made for one executor. Attributes: `address`, `tasks`, `results`, `group`."""

    def __init__(self, bootstrap_servers: "str | os.PathLike[str] | None") -> None:
        """Makes the topics; a private bus for them if there is no address. Raises BusError."""
        self._bus = PrivateBus() if bootstrap_servers is None else None
        self.address = str(self._bus.path if self._bus else bootstrap_servers)
        self.group = f"executor.{os.urandom(6).hex()}"
        self.tasks = f"{self.group}.tasks"
        self.results = f"{self.group}.results"
        try:
            with Admin(self.address) as admin:
                admin.create_topics(
                    [NewTopic(name, topic_configs=_CONFIGS) for name in (self.tasks, self.results)]
                )
        except BaseException:
            if self._bus is not None:
                self._bus.close()
            raise

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
