"""Signals as events of a selector: they end its sleep, and are answered in the loop."""

import os
import selectors
import signal
import socket
from collections.abc import Callable, Collection


class SignalBell:
    """Calls back, from the selector's loop, for each of some signals."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        numbers: Collection[int],
        callback: Callable[[int], None],
    ) -> None:
        """Takes these signals over, in the main thread."""
        self._selector = selector
        self._numbers = numbers
        self._callback = callback
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        selector.register(self._reader, selectors.EVENT_READ, self._answer)

    def _answer(self) -> None:
        for number in self._reader.recv(64):
            if number in self._numbers:
                self._callback(number)

    def close(self) -> None:
        """Lets go; a signal that comes before the next bell is made is ignored."""
        signal.set_wakeup_fd(-1)
        self._selector.unregister(self._reader)
        self._reader.close()
        self._writer.close()


def when_closed(selector: selectors.BaseSelector, fd: int, callback: Callable[[], None]) -> None:
    """Calls back, once, when the other end of a pipe is closed. The descriptor is closed then."""

    def closed() -> None:
        selector.unregister(fd)
        os.close(fd)
        callback()

    selector.register(fd, selectors.EVENT_READ, closed)
