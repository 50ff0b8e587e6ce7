"""A client of another user's bus: what `bus.Client` is to the owner, by way of the gateway.

It holds read-only descriptors and one socket. The two words of bus.ctl that a consumer looks at all
the time, the catalog's version and whether the bus stops, are kept in a page of its own, and set
from what the gateway says in every reply.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from bus.acl import peer_of, user_name
from bus.address import Address, resolve_address
from bus.catalog import Topic
from bus.client import Client
from bus.config import check_client_id, check_topic_name
from bus.errors import (
    BrokerNotRunningError,
    BusTimeoutError,
    ClosedError,
    ClusterAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsafeDirectoryError,
    error_named,
)
from bus.forks import drop_in_child
from bus.guest_directory import GuestDirectory, own_page
from bus.native.core import LAYOUT, Bells, Cursor, GuestLog, Table
from bus.wire import CALL, ERROR, HangUpError, Message, pack_json, receive_reply, send

_CATALOG_VERSION: Final = LAYOUT["bus_control.catalog_version"]
_STOPPING: Final = LAYOUT["bus_control.stopping"]
#: a word of bus.ctl that guests have no other use for
_GROUP: Final = LAYOUT["bus_control.next_generation"]
#: without a word from the gateway for so long, a guest asks how things are, in seconds
NEWS_S: Final = 1.0
#: between two attempts to reach a gateway that is being started again, and for how long
RETRY_S: Final = 0.02
RETRIES_S: Final = 15.0
#: a wait is asked for anew after that time, in ms
WAIT_MS_MAX: Final = 10_000.0
#: what `wait` takes in place of an offset: any record will do
_ANY: Final = -1


class _Place:
    """A guest has no slot of the client table."""

    slot = 0
    generation = 0


class GuestClient(Client):
    """Connected to a gateway from its making to `close`. May be used from several threads."""

    is_guest = True

    def __init__(
        self, address: Address, *, role: int, client_id: str, timeout_s: float = 30.0
    ) -> None:
        """Connect. Raises BrokerNotRunningError, UnsafeDirectoryError."""
        self.role = role
        self.client_id = check_client_id(client_id)
        self.attachments = 1
        self.directory: GuestDirectory = GuestDirectory(resolve_address(address))
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._closed = False
        self._stale = False
        self._last_id = 0
        #: raised by every connection: what a gateway held for this client ends with the old one
        self.connections = 0
        self.group_is_due = False
        self._hot_id = ""
        self._heard_s = 0.0
        self._known: dict[tuple[str, str], Topic] = {}
        self._known_version = -1
        self._logs: dict[tuple[int, int], GuestLog] = {}
        self._words = own_page()
        self._bells = Bells(self._words)
        self._waker = socket.socketpair()
        for end in self._waker:
            end.setblocking(False)
        self._socket: socket.socket | None = None
        try:
            # the socket is there: a gateway listens, or is being started again
            self._connect(time.monotonic() + RETRIES_S)
        except BaseException:
            self.directory.close()
            raise
        drop_in_child(self)

    # ------------------------------------------------------------- what consumers look at

    @property
    def slot(self) -> Any:
        """Slot 0 of nothing: no doorbell and no lock belongs to it."""
        return _Place

    @property
    def control(self) -> Table:
        """A page of this process's own, in the place of bus.ctl."""
        return self._words

    @property
    def bells(self) -> Bells:
        """Doorbells that nobody has: see `sleep` and `wake`."""
        return self._bells

    @property
    def hot_fd(self) -> int:
        """A guest sees no hot directory."""
        raise self._not_for_guests("look into the hot directory")

    @property
    def stopping(self) -> bool:
        """True if the bus was stopped."""
        if not self._stale and time.monotonic() - self._heard_s > NEWS_S:
            with suppress(BrokerNotRunningError):
                self.call("state")
        return bool(self._words.load32_acquire(_STOPPING))

    def catalog_version(self) -> int:
        """A number that changes whenever a topic does, as last heard."""
        return self._words.load_acquire(_CATALOG_VERSION)

    @property
    def group_word(self) -> tuple[Table, int, int]:
        """A word that is raised whenever the gateway says that a rebalance is due."""
        return self._words, _GROUP, self._words.load_acquire(_GROUP)

    @property
    def connection(self) -> socket.socket:
        """The socket itself, for who sends records."""
        assert self._socket is not None
        return self._socket

    def hang_up(self) -> None:
        """End the connection: who reads from it in another thread is told."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def describe_holder(self, slot: int) -> str:
        """A guest does not see who else is there."""
        return f"client {slot}"

    def _not_for_guests(self, what: str) -> ClusterAuthorizationFailedError:
        owner = user_name(self.directory.owner)
        return ClusterAuthorizationFailedError(
            f"user {user_name(os.geteuid())} may not {what} of the bus in {self.directory.path}:"
            f" only {owner}, who owns it, may"
        )

    # -------------------------------------------------------------------------- connection

    def _connect(self, deadline: float) -> None:
        """Connect and say hello; again, if the gateway is just ending or starting."""
        while True:
            try:
                self._socket = self._connected()
                self.connections += 1
                self._greet()
                return
            except (OSError, HangUpError) as error:
                if time.monotonic() >= deadline:
                    self._words.store32_release(_STOPPING, 1)
                    raise BrokerNotRunningError(
                        f"nobody serves other users in {self.directory.path} ({error}): its owner"
                        " stopped that bus, or shares it no more"
                    ) from error
                time.sleep(RETRY_S)

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(self._timeout_s)
            sock.connect(self.directory.guests_path)
            uid = peer_of(sock).uid
            if uid != self.directory.owner:
                raise UnsafeDirectoryError(
                    f"the gateway in {self.directory.path} runs as uid {uid}, not as its owner"
                    f" {self.directory.owner}; do not trust it"
                )
        except BaseException:
            sock.close()
            raise
        return sock

    def _greet(self) -> None:
        hello = self._exchange("hello", {}).json()
        if self._hot_id not in ("", hello["hot_id"]):
            # The bus was stopped and started: what is mapped here leads nowhere any more.
            self._words.store32_release(_STOPPING, 1)
        self._hot_id = str(hello["hot_id"])

    def ensure(self) -> bool:
        """Connect again if this process was forked since. True if it did: caches are void."""
        if self._closed:
            raise ClosedError(f"client {self.client_id!r} is closed; make another one")
        if not self._stale:
            return False
        with self._lock:
            self._stale = False
            self._waker = socket.socketpair()
            self._known, self._logs, self._hot_id = {}, {}, ""
            self._words.store32_release(_STOPPING, 0)
            self._connect(time.monotonic() + RETRIES_S)
            self.attachments += 1
        return True

    def after_fork(self) -> None:
        """In a forked child: the connection stays the parent's."""
        self._lock = threading.RLock()
        if self._socket is not None:
            self._socket.close()
        self._words = own_page()
        self._bells = Bells(self._words)
        self._stale = not self._closed

    def close(self) -> None:
        """Hang up. Idempotent; callable from any thread."""
        self.wake()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._logs = {}
            if self._socket is not None:
                self._socket.close()
            for end in self._waker:
                end.close()
            self.directory.close()

    def reconnect(self) -> bool:
        """Connect again after the gateway was gone. False: a guest's caches are never void."""
        return self.ensure()

    # ----------------------------------------------------------------------------- calls

    def call(
        self, op: str, /, *, call_timeout_s: float | None = None, **args: Any
    ) -> dict[str, Any]:
        """Ask the gateway; asks again if it is a new one, for no request does harm twice."""
        with self._lock:
            return self._ask(op, args)[0]

    def send(self, op: str, /, **args: Any) -> None:
        """Ask for something without waiting: a guest has nothing of that kind to ask for."""
        raise self._not_for_guests(f"ask for {op!r}")

    def _ask(self, op: str, args: dict[str, Any]) -> tuple[dict[str, Any], int]:
        self.ensure()
        try:
            reply = self._exchange(op, args)
        except HangUpError:
            self._connect(time.monotonic() + RETRIES_S)
            try:
                reply = self._exchange(op, args)
            except HangUpError as error:
                raise BrokerNotRunningError(
                    f"the gateway in {self.directory.path} hung up on {op!r}: {error}"
                ) from error
        return reply.json(), reply.fd

    def _exchange(self, op: str, args: dict[str, Any]) -> Message:
        sock = self._socket
        assert sock is not None
        self._last_id += 1
        number = self._last_id
        send(sock, pack_json(CALL, number, {"op": op, "args": args}))
        while True:
            reply = receive_reply(sock)
            if reply.kind == ERROR and reply.id in (0, number):
                content = reply.json()
                raise error_named(str(content["error"]), str(content["message"]))
            if reply.id == number:
                self._note(reply)
                return reply

    def _note(self, reply: Message) -> None:
        catalog, stopping, due = reply.json()["bus"]
        if due and not self.group_is_due:
            self._words.add(_GROUP, 1)
        self.group_is_due = bool(due)
        self._heard_s = time.monotonic()
        self._words.store_release(_CATALOG_VERSION, int(catalog))
        if stopping:
            self._words.store32_release(_STOPPING, 1)

    def ask_for_file(self, op: str, **args: Any) -> int:
        """A read-only descriptor from the gateway. Raises FileNotFoundError if there is none."""
        with self._lock:
            result, fd = self._ask(op, args)
        if fd < 0 or result.get("missing"):
            raise FileNotFoundError(f"{op} {args}")
        return fd

    # ---------------------------------------------------------------------------- topics

    def topic(
        self,
        name: str,
        create: bool = False,
        what: Literal["read", "write"] = "read",
        *,
        timeout_s: float | None = None,
    ) -> Topic:
        """The topic, if this user may read (or write) it. Raises TopicAuthorizationFailedError."""
        self.ensure()
        if (version := self.catalog_version()) != self._known_version:
            self._known, self._known_version = {}, version
        found = self._known.get((name, what))
        if found is None:
            check_topic_name(name)
            answer = self.call("topic", name=name, what=what, call_timeout_s=timeout_s)
            found = self._known[name, what] = Topic.from_json(answer["topic"])
        return found

    def topics(self) -> list[Topic]:
        """The topics that this user may read."""
        return [Topic.from_json(topic) for topic in self.call("topics")["topics"]]

    def partition(self, topic: Topic, partition: int) -> Any:
        """The hot log of a partition, mapped read-only. Raises UnknownTopicOrPartitionError."""
        found = self._logs.get((topic.id, partition))
        if found is None:
            found = self._logs[topic.id, partition] = self._open_log(topic, partition)
        return found

    def _open_log(self, topic: Topic, partition: int) -> GuestLog:
        try:
            fd = self.ask_for_file("partition", topic=topic.name, partition=partition)
        except FileNotFoundError as error:
            raise UnknownTopicOrPartitionError(
                f"partition {partition} of topic {topic.name!r} is gone; the topic was deleted"
            ) from error

        def open_hot(serial: int) -> int:
            return self.ask_for_file("hot", topic=topic.name, partition=partition, serial=serial)

        try:
            return GuestLog(fd, topic.id, partition, open_hot)
        finally:
            os.close(fd)

    # --------------------------------------------------------------------------- waiting

    def wake(self) -> None:
        """End a `sleep` in another thread."""
        with suppress(OSError):  # closed, or rung already
            self._waker[1].send(b"\0")

    def sleep(self, cursors: Sequence[Cursor], deadline_ns: int) -> None:
        """Until there may be more to read or to do, or until that monotonic time."""
        left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
        if left_ms <= 0:
            return
        places = [
            [*one.topic_partition, *one.log.tail, one.offset if one.durable_only else _ANY]
            for one in cursors
            if not one.has_news()
        ]
        if len(places) < len(cursors):
            return
        timeout_ms = min(left_ms, WAIT_MS_MAX)
        args = {"places": places, "timeout_ms": timeout_ms, "catalog": self.catalog_version()}
        with self._lock:
            self._wait(args, timeout_ms / 1e3)

    def _wait(self, args: dict[str, Any], timeout_s: float) -> None:
        sock = self._socket
        assert sock is not None
        self._last_id += 1
        number = self._last_id
        try:
            send(sock, pack_json(CALL, number, {"op": "wait", "args": args}))
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            poll.register(self._waker[0], select.POLLIN)
            ready = {fd for fd, _ in poll.poll((timeout_s + self._timeout_s) * 1e3)}
            if sock.fileno() not in ready:
                with suppress(BlockingIOError):
                    self._waker[0].recv(64)
                if not ready:
                    raise BusTimeoutError(f"the gateway in {self.directory.path} does not answer")
                return  # the reply is passed over when it comes: its id is too small
            reply = receive_reply(sock)
        except HangUpError:
            self._connect(time.monotonic() + RETRIES_S)
            return
        if reply.kind == ERROR:
            content = reply.json()
            raise error_named(str(content["error"]), str(content["message"]))
        if reply.id == number:
            self._note(reply)
