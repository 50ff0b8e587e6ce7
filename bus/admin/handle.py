"""Handle: what the parts of an Admin share: one attached client, closed once."""

from types import TracebackType
from typing import Self

from bus.address import Address
from bus.client import Client
from bus.errors import ClosedError
from bus.liveness import ROLE_ADMIN
from bus.native.core import Partition
from bus.structs import TopicPartition


class Handle:
    """An attachment to a bus, for administration. A context manager; `close()` is idempotent."""

    def __init__(
        self,
        bootstrap_servers: Address = None,
        *,
        client_id: str = "bus-admin",
        request_timeout_ms: float = 30_000,
        autostart: bool = True,
    ) -> None:
        """Attach to the bus in a directory; None stands for $BUS_DIR, else the XDG state directory.

        Raises BrokerNotRunningError if no broker runs there and `autostart` is False or failed,
        and DirectoryError if the directory cannot be used.
        """
        self._open_client: Client | None = Client.connect(
            bootstrap_servers,
            role=ROLE_ADMIN,
            client_id=client_id,
            autostart=autostart,
            timeout_s=request_timeout_ms / 1000,
        )

    @property
    def _client(self) -> Client:
        if self._open_client is None:
            raise ClosedError("this Admin is closed; make a new one")
        return self._open_client

    def _log(self, partition: TopicPartition) -> Partition:
        """The hot log of a partition. Raises UnknownTopicOrPartitionError."""
        topic = self._client.topic(partition.topic)
        return self._client.partition(topic, partition.partition)

    def close(self) -> None:
        """Detach from the bus. Idempotent."""
        client, self._open_client = self._open_client, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
