"""Wakes a thread that sleeps on descriptors, from any thread or signal handler."""

import os


class Bell:
    """An eventfd, closed when nobody has the bell any more: a late ring must not hit another file.

    Attributes: `fd`, readable once it has rung.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Wakes the sleeper, now or when it goes to sleep."""
        os.eventfd_write(self.fd, 1)

    def hear(self) -> None:
        """Silences it, for the next ring."""
        os.eventfd_read(self.fd)

    def __del__(self) -> None:
        os.close(self.fd)
