"""The gateway: the one process that programs of other users speak to, run as the bus's owner.

    python -m bus.gateway DIR --broker PID

A guest connects to `guests.sock`. What it may do is decided by `bus.acl`, at every request anew.
It reads through read-only descriptors that it gets here, and writes by sending records, which a
producer of the gateway appends. So nothing that a guest holds can change a byte of the bus.

One thread for each guest (`bus.gateway_guest`): a guest that is slow, or floods, holds up nobody
but itself. Bounds: connections in all and of each user, bytes in flight of each user, sizes of
messages, time for the rest of a message. Who breaks them is cut off, and that is counted.

The broker starts it, starts it again when it died, and ends it; if the broker is killed, it ends
by itself, and the next broker starts another one. Guests connect again.
"""

import argparse
import logging
import os
import selectors
import signal
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from bus import files
from bus.acl import Peer, peer_of
from bus.address import GUESTS_SOCKET
from bus.client import Client
from bus.config import MIB
from bus.directory import BusDirectory
from bus.errors import BusError
from bus.gateway_guest import Guest
from bus.incidents import Incident, Incidents
from bus.liveness import ROLE_GATEWAY
from bus.wire import ERROR, HangUpError, pack_json, send

logger = logging.getLogger("bus.gateway")

#: connections of all guests, and of one user
CONNECTIONS_MAX: Final = 256
USER_CONNECTIONS_MAX: Final = 32
#: bytes of records of one user that are being received or appended
USER_BYTES_MAX: Final = 160 * MIB
#: a user whose programs were cut off so often within OFFENCE_S is not listened to for that long
OFFENCES_MAX: Final = 20
OFFENCE_S: Final = 10.0
#: guests' threads end within that time, in seconds
END_TIMEOUT_S: Final = 1.0
BACKLOG: Final = 128
LOG_FORMAT: Final = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class Quota:
    """The bytes that the guests of one user may have in flight."""

    def __init__(self, most: int = USER_BYTES_MAX) -> None:
        self._most = most
        self._used: Counter[int] = Counter()
        self._changed = threading.Condition()

    def take(self, uid: int, size: int) -> None:
        """Wait until there is room."""
        with self._changed:
            while self._used[uid] and self._used[uid] + size > self._most:
                self._changed.wait()
            self._used[uid] += size

    def give(self, uid: int, size: int) -> None:
        """Make room again."""
        with self._changed:
            self._used[uid] -= size
            self._changed.notify_all()


class Gateway:
    """The listening socket and the guests of one bus."""

    def __init__(self, directory: BusDirectory) -> None:
        self.directory = directory
        self.client = Client.connect(
            directory.path, role=ROLE_GATEWAY, client_id="gateway", autostart=False
        )
        self.incidents = Incidents(self.client.control)
        self.quota = Quota()
        self._offences: dict[int, deque[float]] = {}
        self._guests: dict[Guest, threading.Thread] = {}
        self._lock = threading.Lock()
        self.listener = listen(directory)

    def accept(self) -> None:
        """Serve the next guest in a thread of its own, or tell it why not."""
        try:
            sock, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        sock.setblocking(True)
        peer = peer_of(sock)
        refusal = self._refusal(peer)
        if refusal is not None:
            self.incidents.note(Incident.REQUEST_REFUSED, "guest %s: %s", peer.name, refusal)
            self._turn_away(sock, refusal)
            return
        guest = Guest(self, sock, peer)
        thread = threading.Thread(target=self._serve, args=(guest,), daemon=True)
        with self._lock:
            self._guests[guest] = thread
        thread.start()

    def _refusal(self, peer: Peer) -> str | None:
        with self._lock:
            uids = [guest.peer.uid for guest in self._guests]
        if len(uids) >= CONNECTIONS_MAX:
            return f"{CONNECTIONS_MAX} guests are connected, no more fit"
        if uids.count(peer.uid) >= USER_CONNECTIONS_MAX:
            return f"user {peer.name} has {USER_CONNECTIONS_MAX} connections, no more are served"
        if self._is_banned(peer.uid):
            return f"programs of user {peer.name} sent too much nonsense; try again in a while"
        return None

    def _is_banned(self, uid: int) -> bool:
        with self._lock:
            times = self._offences.get(uid, deque())
            while times and times[0] < monotonic() - OFFENCE_S:
                times.popleft()
            return len(times) >= OFFENCES_MAX

    def offended(self, peer: Peer, why: str) -> None:
        """A guest broke the rules of the socket: count it."""
        with self._lock:
            self._offences.setdefault(peer.uid, deque(maxlen=OFFENCES_MAX)).append(monotonic())
        self.incidents.note(
            Incident.REQUEST_REFUSED, "guest %s (pid %d) is cut off: %s", peer.name, peer.pid, why
        )

    def _turn_away(self, sock: socket.socket, why: str) -> None:
        sock.setblocking(False)
        with suppress(HangUpError):  # it need not listen
            error = {"error": "TooManyClientsError", "message": why}
            send(sock, pack_json(ERROR, 0, error))
        sock.close()

    def _serve(self, guest: Guest) -> None:
        try:
            guest.serve()
        except Exception:
            # Nothing that one guest does may end the gateway of all the others.
            logger.exception("guest %s (pid %d)", guest.peer.name, guest.peer.pid)
        finally:
            with self._lock:
                del self._guests[guest]
            guest.close()

    def close(self) -> None:
        """Hang up on all guests, and leave the bus."""
        self.listener.close()
        with self._lock:
            guests = dict(self._guests)
        for guest in guests:
            guest.hang_up()
        limit = monotonic() + END_TIMEOUT_S
        for thread in guests.values():
            thread.join(max(0.0, limit - monotonic()))
        self.client.close()


def listen(directory: BusDirectory) -> socket.socket:
    """The socket for guests, which every user may connect to. The broker allows one gateway."""
    with files.explained(str(directory.path / GUESTS_SOCKET)):
        with suppress(FileNotFoundError):
            os.unlink(GUESTS_SOCKET, dir_fd=directory.fd)
        flags = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_UNIX, flags)
        try:
            sock.bind(f"/proc/self/fd/{directory.fd}/{GUESTS_SOCKET}")
            sock.listen(BACKLOG)
            os.chmod(GUESTS_SOCKET, 0o666, dir_fd=directory.fd)
        except BaseException:
            sock.close()
            raise
    return sock


def run(gateway: Gateway, broker_fd: int) -> None:
    """Take guests until the broker ends, or asks for the end."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for one in (gateway.listener.fileno(), broker_fd, reader.fileno()):
            selector.register(one, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if broker_fd in ready or reader.fileno() in ready:
                return
            gateway.accept()


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bus.gateway", description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--broker", type=int, required=True)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the broker, which ends us
    broker_fd = os.pidfd_open(options.broker)
    if os.getppid() != options.broker:
        return 0  # it died before we could watch it
    try:
        with BusDirectory.open(options.directory) as directory:
            gateway = Gateway(directory)
            try:
                run(gateway, broker_fd)
            finally:
                gateway.close()
    except BusError as error:
        logger.error("the gateway ends: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
