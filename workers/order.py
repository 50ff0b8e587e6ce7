"""What the workers of a pool are told to do; it travels to each of them."""

from dataclasses import dataclass

import bus
from workers.handler import Handler
from workers.retry import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A pool's work. `address` is the bus; `timeout_s` is a handler's time, None without limit."""

    address: str | None
    topic: str
    group: str
    handler: Handler
    retry: Retry
    dead_letter: bool
    timeout_s: float | None
    concurrency: int
    log_level: int | None

    def join(self, number: int) -> bus.ShareConsumer:
        """A member of the group for the worker with this number."""
        return bus.ShareConsumer(
            self.topic,
            bootstrap_servers=self.address,
            group_id=self.group,
            client_id=f"worker-{number}",
        )

    @property
    def timeout_ns(self) -> int:
        """The handler's time in ns; 0: as long as it likes."""
        return 0 if self.timeout_s is None else int(self.timeout_s * 1e9)
