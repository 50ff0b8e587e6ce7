"""How long a consumer stays attached: as long as anybody reads through it."""

from bus.client import Client


class Lease:
    """Closes its client when the last reader, and the last record that pins a segment, is gone.

    A pin protects a segment only while its client lives; so a consumer that is closed while
    records are still held stays attached until they are dropped.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._ends = True

    def __del__(self) -> None:
        if self._ends:
            self.client.close()

    def pass_on(self) -> None:
        """In a forked child: the client lives on under another lease."""
        self._ends = False
