"""Following a bus that stops and starts again, or that leaves a spoiled hot directory.

    stopping   the bus ends: whoever may start a broker waits for the next one
    moving     the broker lives and opens another hot directory: everybody waits for that

A client attaches anew; what its owner has cached of the old bus is void.
"""

import time
from contextlib import suppress
from typing import Final

from bus.client import Client
from bus.errors import BrokerNotRunningError, DirectoryError, IllegalStateError

#: Between two looks for the next bus, in seconds.
PAUSE_S: Final = 0.01


def follow_move(client: Client, timeout_s: float) -> None:
    """Attach where a bus that moves goes on.

    Raises BrokerNotRunningError if it does not within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        # While it moves, the broker may be gone, or not know our slot any more.
        with suppress(BrokerNotRunningError, IllegalStateError, DirectoryError):
            client.reconnect()
        if not client.moving:
            return
        if time.monotonic() >= deadline:
            raise BrokerNotRunningError(
                f"the bus in {client.directory.path} leaves a spoiled hot directory, and did not"
                f" open the next one within {timeout_s:g} s; see broker.log there"
            )
        time.sleep(PAUSE_S)


def follow_stop(client: Client, timeout_s: float, *, autostart: bool) -> None:
    """The bus is being stopped, or was: attach to the next one. Raises BrokerNotRunningError.

    A broker that is still ending answers as well, and nothing of its bus may be kept: it would
    never be looked up again.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        error = BrokerNotRunningError(
            f"the bus in {client.directory.path} is being stopped; nothing was stored"
        )
        try:
            client.reconnect()
        except BrokerNotRunningError as lost:
            error = lost  # it ended while it answered
        if not client.stopping:
            return
        if not autostart or time.monotonic() >= deadline:
            raise error
        time.sleep(PAUSE_S)
