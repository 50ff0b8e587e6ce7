"""The topic of a group's flight record, `flight.GROUP`: made, and written to."""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import bus
from bus.errors import BusError, TopicAlreadyExistsError
from workers.flight_note import headers
from workers.letters import safe_name

logger = logging.getLogger(__name__)

Keeping = Literal["memory", "durable"]
#: The supervisor waits no longer for room; what is not sent then is counted and lost.
SEND_TIMEOUT_MS: Final = 20
#: Between two words in the log about notes that are lost.
_TELL_S: Final = 10.0
_MIB: Final = 1 << 20
CONFIGS: Final[dict[Keeping, dict[str, Any]]] = {
    "memory": {"durability": "memory", "overflow": "drop", "hot.bytes": 16 * _MIB},
    "durable": {"retention.bytes": 1024 * _MIB},
}


def name_of(group: str) -> str:
    """The topic that holds the flight record of a group."""
    return f"flight.{safe_name(group)}"


def make_topic(address: str | None, group: str, keeping: Keeping) -> str:
    """Makes it unless it is there, however it is kept; returns its name. Raises BusError."""
    name = name_of(group)
    with bus.Admin(address) as admin:
        if name not in admin.list_topics():
            try:
                admin.create_topics([bus.NewTopic(name, 1, topic_configs=CONFIGS[keeping])])
            except TopicAlreadyExistsError:
                return name  # another pool of the group starts at this moment
    return name


class FlightTopic:
    """Sends notes, and never holds up for long who does. `lost` counts bytes that were not sent."""

    def __init__(self, address: str | None, group: str) -> None:
        self.name = name_of(group)
        self.lost = 0
        self._tell_at_s = 0.0
        self._producer = bus.Producer(
            address, client_id="flight", acks=1, max_block_ms=SEND_TIMEOUT_MS
        )

    def send(self, notes: bytes, pid: int, topics: Sequence[str]) -> None:
        """Sends the notes of one worker."""
        try:
            self._producer.send(self.name, notes, headers=headers(pid, topics))
        except BusError as error:
            self.lost += len(notes)
            if time.monotonic() >= self._tell_at_s:
                self._tell_at_s = time.monotonic() + _TELL_S
                logger.warning("%d bytes of the flight record were lost: %s", self.lost, error)

    def close(self) -> None:
        """Leaves the bus. Idempotent."""
        self._producer.close()
