"""Whether other users may come: the mode of the bus directory, and the gateway that serves them.

A bus is shared as long as a topic has an ACL, or the broker was started with `shared`. Then the
directory can be entered (mode 0711, but neither listed nor written by others), and the gateway
listens on `guests.sock`, the one thing in there that others can open. Else all is closed.
"""

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

from bus.address import GUESTS_SOCKET
from bus.autostart import environment, is_readable
from bus.directory import BusDirectory
from bus.hotdir import HotDirectory
from bus.incidents import Incident, Incidents
from bus.inventory import Inventory

logger = logging.getLogger(__name__)

#: before a gateway that died is started again, in seconds; doubled each time that it lives shorter
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
LONG_LIFE_S: Final = 1.0
#: time for a gateway to hang up on its guests, in seconds
END_TIMEOUT_S: Final = 3.0
_ENTER: Final = 0o011


class Sharing:
    """The gateway of one broker, if it needs one."""

    def __init__(
        self,
        directory: BusDirectory,
        hot: HotDirectory,
        inventory: Inventory,
        selector: selectors.BaseSelector,
        always: bool,
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._inventory = inventory
        self._selector = selector
        self._always = always
        self._incidents = Incidents(hot.control)
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._started_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._start_at_s = 0.0
        self._catalog_seen = -1
        self._wanted = False
        self._ended = False

    def tick(self) -> None:
        """Follow the topics, and start what is due. To be called after whatever may change them."""
        if self._ended:
            return
        if self._hot.catalog_version != self._catalog_seen:
            self._catalog_seen = self._hot.catalog_version
            self._follow()
        if self._wanted and self._process is None and time.monotonic() >= self._start_at_s:
            self._start()

    def _follow(self) -> None:
        before = self._wanted
        topics = self._inventory.topics()
        self._wanted = self._always or any(topic.config.shared for topic in topics)
        self._set_mode()
        if before and not self._wanted:
            self._stop()

    def _set_mode(self) -> None:
        """A broker that was killed may have left the other mode."""
        mode = os.fstat(self._directory.fd).st_mode & 0o7777
        wanted = mode | _ENTER if self._wanted else mode & ~_ENTER
        if mode != wanted and (self._wanted or self._was_shared()):
            os.fchmod(self._directory.fd, wanted)

    def _was_shared(self) -> bool:
        return GUESTS_SOCKET in os.listdir(self._directory.fd)

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "bus.gateway", str(self._directory.path)]
        self._process = subprocess.Popen(
            [*command, "--broker", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
        )
        self._started_s = time.monotonic()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._on_exit)

    def _on_exit(self) -> None:
        code = self._forget()
        lived_s = time.monotonic() - self._started_s
        self._pause_s = (
            FIRST_PAUSE_S if lived_s > LONG_LIFE_S else min(2 * self._pause_s, LONGEST_PAUSE_S)
        )
        self._start_at_s = time.monotonic() + self._pause_s
        self._incidents.note(
            Incident.GATEWAY_RESTARTED,
            "the gateway for other users ended with %s; it is started again in %g s",
            code,
            self._pause_s,
        )

    def _forget(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        self._selector.unregister(self._pidfd)
        os.close(self._pidfd)
        return process.wait()

    def _stop(self) -> None:
        """Guests are hung up on; what they sent is stored or refused."""
        if self._process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(self._pidfd, number)
                if is_readable(self._pidfd, END_TIMEOUT_S):
                    break
            self._forget()
        with suppress(FileNotFoundError):
            os.unlink(GUESTS_SOCKET, dir_fd=self._directory.fd)

    def end(self) -> None:
        """The bus is being stopped. Nobody else may enter until it is started again.

        A socket that cannot be removed leads nowhere, and is no reason for the bus to go on.
        """
        if self._ended:
            return
        self._ended = True
        try:
            self._stop()
            if self._wanted:
                self._wanted = False
                mode = os.fstat(self._directory.fd).st_mode & 0o7777
                os.fchmod(self._directory.fd, mode & ~_ENTER)
        except OSError as error:
            logger.error("%s; the bus stops all the same", error)
