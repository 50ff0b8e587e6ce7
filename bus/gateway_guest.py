"""One guest of a bus, as its gateway serves it: a connection, a thread, and what it may do.

Every request is checked against the ACLs as they are at that moment. A topic that a guest may not
use and one that does not exist look the same to it.
"""

import logging
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from bus.acl import Peer, allows, user_name
from bus.catalog import Topic
from bus.client import Client
from bus.config import check_topic_name
from bus.durable import DATA_START, list_segments, open_segment
from bus.errors import (
    BusError,
    ClusterAuthorizationFailedError,
    DirectoryError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from bus.files import open_own
from bus.gateway_group import GuestGroups
from bus.gateway_writer import GuestWriter
from bus.liveness import ROLE_CONSUMER
from bus.native.core import Partition, parse_header
from bus.wire import (
    CALL,
    CALL_BYTES_MAX,
    ERROR,
    HEADER,
    RECORD,
    RECORD_BYTES_MAX,
    RESULT,
    HangUpError,
    MalformedError,
    Message,
    pack_json,
    receive_exactly,
    send,
)

if TYPE_CHECKING:
    from bus.gateway import Gateway

logger = logging.getLogger("bus.gateway")

#: a guest has that long for the rest of a message, and to take a reply, in seconds
PATIENCE_S: Final = 10.0
#: a wait looks at the guest's socket so often at first, and then ever more seldom, in ms
FIRST_SLICE_MS: Final = 50.0
LAST_SLICE_MS: Final = 1000.0
WAIT_MS_MAX: Final = 60_000.0
#: partitions that one wait may name
WAIT_PARTITIONS_MAX: Final = 4096


class Guest:
    """A program of another user. Attributes: `peer`, `gateway`."""

    def __init__(self, gateway: "Gateway", sock: socket.socket, peer: Peer) -> None:
        self.gateway = gateway
        self.peer = peer
        self._socket = sock
        self._client: Client | None = None
        self._groups = GuestGroups(self)
        self._writer = GuestWriter(self)
        self._operations: dict[str, Callable[..., tuple[dict[str, Any], int]]] = {
            "hello": self._hello,
            "state": self._state,
            "topic": self._topic,
            "topics": self._topics,
            "partition": self._partition,
            "hot": self._hot,
            "durable": self._durable,
            "wait": self._wait,
            **self._groups.operations,
        }

    # ------------------------------------------------------------------------- the connection

    def serve(self) -> None:
        """Answer requests until the guest hangs up, or breaks the rules."""
        try:
            while True:
                self._socket.settimeout(None)
                head = receive_exactly(self._socket, HEADER.size)
                self._socket.settimeout(PATIENCE_S)
                self._receive(*HEADER.unpack(head))
        except HangUpError:
            return
        except MalformedError as error:
            self.gateway.offended(self.peer, str(error))

    def _receive(self, size: int, kind: int, number: int) -> None:
        if kind not in (CALL, RECORD):
            raise MalformedError(f"a message of kind {kind}")
        most = CALL_BYTES_MAX if kind == CALL else RECORD_BYTES_MAX
        if size > most:
            raise MalformedError(f"a message of {size} bytes, at most {most} are taken")
        self.gateway.quota.take(self.peer.uid, size)
        try:
            body = receive_exactly(self._socket, size)
            if kind == RECORD:
                self._writer.store(number, body)
                return
        finally:
            self.gateway.quota.give(self.peer.uid, size)
        self._answer(Message(kind, number, body))

    def _answer(self, request: Message) -> None:
        content = request.json()
        op, args = content.get("op"), content.get("args", {})
        if not isinstance(op, str) or not isinstance(args, dict):
            raise MalformedError("a call without op and args")
        fd = -1
        try:
            result, fd = self._operation(op)(**args)
            bus = self.gateway.client
            result["bus"] = [bus.catalog_version(), bus.stopping, self._groups.is_due]
            self.reply(pack_json(RESULT, request.id, result), fd)
        except (TypeError, LookupError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, BusError):
                self.fail(request.id, error)
            else:
                raise MalformedError(f"call {op!r}: {error!r}") from error
        except (BusError, OSError) as error:
            if isinstance(error, HangUpError):
                raise
            self.fail(request.id, error)
        finally:
            if fd >= 0:
                os.close(fd)

    def _operation(self, op: str) -> Callable[..., tuple[dict[str, Any], int]]:
        found = self._operations.get(op)
        if found is not None:
            return found
        raise ClusterAuthorizationFailedError(
            f"user {self.peer.name} may not ask for {op!r}: only {self.owner}, who owns the bus in"
            f" {self.gateway.directory.path}, may"
        )

    def reply(self, data: bytes, fd: int = -1) -> None:
        """Send a packed message. Raises HangUpError if the guest does not take it in time."""
        send(self._socket, data, fd)

    def fail(self, number: int, error: Exception) -> None:
        """Tell the guest what went wrong with a request."""
        name = type(error).__name__ if isinstance(error, BusError) else "BusError"
        self.reply(pack_json(ERROR, number, {"error": name, "message": str(error)[:4000]}))

    def is_calling(self, timeout_s: float = 0) -> bool:
        """True if the guest has sent something, or is gone."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(timeout_s * 1e3))

    def hang_up(self) -> None:
        """End the connection from another thread: `serve` returns."""
        with suppress(OSError):  # it has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of all that was held for the guest."""
        self._socket.close()
        try:
            self._groups.close()
        except BusError as error:  # the bus is being stopped: the member is gone with it
            logger.warning("guest %s could not leave its group: %s", self.peer.name, error)
        self._writer.close()
        if self._client is not None:
            self._client.close()

    # ----------------------------------------------------------------------------- permission

    @property
    def owner(self) -> str:
        """The user who owns the bus."""
        return user_name(os.geteuid())

    def allowed(self, name: str, what: str) -> Topic:
        """The topic, if the guest may "read" or "write" it; else TopicAuthorizationFailedError."""
        topic = None
        try:
            topic = self.gateway.client.topic(check_topic_name(name))
        except UnknownTopicOrPartitionError:
            pass_over = True  # it looks like one that is not for this guest
        else:
            pass_over = not allows(getattr(topic.config, f"acl_{what}"), self.peer)
        if topic is None or pass_over:
            raise TopicAuthorizationFailedError(
                f"user {self.peer.name} may not {what} topic {name!r} of the bus in"
                f" {self.gateway.directory.path}, or there is none; {self.owner}, who owns it, can"
                f" allow that with: bus topics alter {name} --config acl.{what}=user:"
                f"{self.peer.name}"
            )
        return topic

    @property
    def client(self) -> Client:
        """The guest's own place on the bus: its doorbell, and its memberships."""
        if self._client is None:
            self._client = Client.connect(
                self.gateway.directory.path,
                role=ROLE_CONSUMER,
                client_id=f"guest {self.peer.name} pid {self.peer.pid}",
                autostart=False,
            )
        return self._client

    # ----------------------------------------------------------------------------- operations

    def _hello(self) -> tuple[dict[str, Any], int]:
        client = self.gateway.client
        return {"hot_id": f"{client.hot_id:016x}", "owner": self.owner, "user": self.peer.name}, -1

    def _state(self) -> tuple[dict[str, Any], int]:
        return {}, -1

    def _topic(self, *, name: str, what: str = "read") -> tuple[dict[str, Any], int]:
        if what not in ("read", "write"):
            raise MalformedError(f"permission {what!r}")
        return {"topic": self.allowed(name, what).to_json()}, -1

    def _topics(self) -> tuple[dict[str, Any], int]:
        topics = self.gateway.client.topics()
        mine = [topic for topic in topics if allows(topic.config.acl_read, self.peer)]
        return {"topics": [topic.to_json() for topic in mine]}, -1

    def _readable(self, topic: str, partition: int) -> Topic:
        found = self.allowed(topic, "read")
        if not 0 <= int(partition) < found.partitions:
            raise UnknownTopicOrPartitionError(
                f"topic {topic!r} has partitions 0..{found.partitions - 1}, not {partition}"
            )
        return found

    def _hot_file(self, name: str) -> tuple[dict[str, Any], int]:
        """Opened for reading: what a guest gets cannot be opened again for writing."""
        try:
            fd = open_own(name, os.O_RDONLY, dir_fd=self.gateway.client.hot_fd)
        except FileNotFoundError:
            return {"missing": True}, -1
        return {}, fd

    def _partition(self, *, topic: str, partition: int) -> tuple[dict[str, Any], int]:
        found = self._readable(topic, partition)
        return self._hot_file(f"{found.id}-{int(partition)}.ctl")

    def _hot(self, *, topic: str, partition: int, serial: int) -> tuple[dict[str, Any], int]:
        found = self._readable(topic, partition)
        return self._hot_file(f"{found.id}-{int(partition)}.{int(serial)}.seg")

    def _durable(self, *, topic: str, partition: int, offset: int) -> tuple[dict[str, Any], int]:
        """The sealed segment that holds the offset, or the first one behind it."""
        found = self._readable(topic, partition)
        try:
            dir_fd = self.gateway.directory.open_partition(found.name, int(partition))
        except DirectoryError:
            return {"missing": True}, -1
        try:
            bases = list_segments(dir_fd)
            last = max((base for base in bases if base <= int(offset)), default=0)
            for base in bases:
                if base < last:
                    continue
                fd = _sealed_beyond(dir_fd, base, int(offset))
                if fd >= 0:
                    return {}, fd
        finally:
            os.close(dir_fd)
        return {"missing": True}, -1

    # -------------------------------------------------------------------------------- waiting

    def _wait(
        self, *, places: list[list[Any]], timeout_ms: float, catalog: int
    ) -> tuple[dict[str, Any], int]:
        """Answers when a log has grown beyond its place, a topic or group changed, or in time.

        A place is [topic, partition, segment number, position, offset or -1]: with an offset the
        wait is for the high watermark above it.
        """
        if len(places) > WAIT_PARTITIONS_MAX:
            raise MalformedError(f"a wait for {len(places)} partitions")
        logs = [(self._log(str(topic), int(part)), place) for topic, part, *place in places]
        if not 0 <= timeout_ms <= WAIT_MS_MAX:  # a NaN is neither
            raise MalformedError(f"a wait of {timeout_ms} ms")
        deadline = time.monotonic() + timeout_ms / 1e3
        slice_ms = FIRST_SLICE_MS
        while not self._is_over(logs, int(catalog)):
            left_ms = (deadline - time.monotonic()) * 1e3
            if left_ms <= 0 or self.is_calling():
                break
            for log, place in logs:
                log.arm(durable=place[2] >= 0)
            if not self._is_over(logs, int(catalog)):
                self.client.bells.wait(self.client.slot.slot, min(left_ms, slice_ms))
            slice_ms = min(2 * slice_ms, LAST_SLICE_MS)
        return {}, -1

    def _log(self, topic: str, partition: int) -> Partition:
        return self.client.partition(self._readable(topic, partition), partition)

    def _is_over(self, logs: list[tuple[Partition, list[Any]]], catalog: int) -> bool:
        client = self.gateway.client
        if client.stopping or client.catalog_version() != catalog or self._groups.is_due:
            return True
        return any(
            log.high_watermark > place[2] if place[2] >= 0 else log.tail != (place[0], place[1])
            for log, place in logs
        )


def _sealed_beyond(dir_fd: int, base: int, offset: int) -> int:
    """A descriptor of the segment if it is sealed and ends behind the offset, else -1."""
    try:
        fd = open_segment(dir_fd, base)
    except FileNotFoundError:
        return -1
    try:
        if parse_header(os.pread(fd, DATA_START, 0)).end_offset > offset:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1
