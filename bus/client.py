"""A handle's attachment to the bus: what a producer, consumer, admin or replica holds.

Records never pass here. A client knows where the hot partitions are, who this process is on the
bus, and how to ask the broker for something; it survives the broker, a new broker, and a fork.

    broker killed, started again   the next call connects to the new one; nothing else changes
    bus stopped, started again     the next call attaches anew: `attachments` is raised
    process forked                 the child's client is stale; its `ensure()` attaches anew

Whoever caches partitions drops them when `attachments` has changed.
"""

import threading
from contextlib import suppress
from typing import Any, Final, Self

from bus.address import Address, is_shared_by_another
from bus.attachment import Attachment, HotView, attach, connect, greet
from bus.catalog import Catalog, Topic
from bus.config import check_client_id
from bus.control import ControlClient, ReplyLostError
from bus.directory import BusDirectory
from bus.errors import (
    BrokerNotRunningError,
    BusConfigurationError,
    ClosedError,
    CorruptSegmentError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from bus.files import translate
from bus.forks import drop_in_child
from bus.incidents import Incidents
from bus.liveness import ROLE_NAMES, ClientSlot, describe_holder
from bus.native.core import LAYOUT, Bells, Partition, Table

#: done twice, these do the same as done once: a reply that was lost is asked for again
REPEATABLE: Final = frozenset(
    {"topic", "topics", "group", "groups", "status", "tend", "alter_configs", "delete_records"}
)
#: the one request that must never start a broker
_STOP: Final = "stop"

_CATALOG_VERSION: Final = LAYOUT["bus_control.catalog_version"]
_STOPPING: Final = LAYOUT["bus_control.stopping"]
#: what `stopping` says while the bus ends; anything above it: it moves
_MOVING: Final = 2
_STOPPED: Final = 1
#: a broker may end between taking a connection and our hello: so often another one is tried
CONNECTS: Final = 3


class Client:
    """Attached to a bus from `connect` to `close`. May be used from several threads.

    Attributes: `role`, `client_id`, `directory`, `attachments` (raised by every attach).
    """

    #: True if the bus belongs to another user
    is_guest = False

    def __init__(
        self, address: Address, *, role: int, client_id: str, autostart: bool, timeout_s: float
    ) -> None:
        """Check the options; use `connect` to get an attached client."""
        if role not in ROLE_NAMES:
            raise BusConfigurationError(f"role {role!r} is not one of {ROLE_NAMES}")
        self.role = role
        self.client_id = check_client_id(client_id)
        self.attachments = 0
        self._autostart = autostart
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._closed = False
        self._stale = False
        self._attachment: Attachment | None = None
        self._topics: dict[str, Topic] = {}
        self._topics_version = -1
        self._partitions: dict[tuple[int, int], Partition] = {}
        self.directory = (BusDirectory.create if autostart else BusDirectory.open)(address)

    @classmethod
    def connect(
        cls,
        address: Address = None,
        *,
        role: int,
        client_id: str,
        autostart: bool = True,
        timeout_s: float = 30.0,
    ) -> "Client":
        """Attach to the bus at `address`, starting a broker if need be and allowed.

        `timeout_s` bounds this and every later call. Raises BrokerNotRunningError,
        TooManyClientsError, NamespaceError, UnsafeDirectoryError, UnsupportedVersionError.
        """
        if is_shared_by_another(address):
            from bus.guest import GuestClient  # here, because only guests need it

            return GuestClient(address, role=role, client_id=client_id, timeout_s=timeout_s)
        client = cls(
            address, role=role, client_id=client_id, autostart=autostart, timeout_s=timeout_s
        )
        try:
            client._attach()
        except BaseException:
            client.directory.close()
            raise
        drop_in_child(client)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.client_id!r} ({ROLE_NAMES[self.role]}) at {self.directory.path}>"

    # -------------------------------------------------------------------- what is attached

    @property
    def _here(self) -> Attachment:
        attachment = self._attachment
        if attachment is None:
            raise ClosedError(f"client {self.client_id!r} is closed; make another one")
        return attachment

    @property
    def slot(self) -> ClientSlot:
        """The client slot of this handle: `.slot` and `.generation` identify it."""
        return self._here.slot

    @property
    def control(self) -> Table:
        """bus.ctl, mapped."""
        return self._here.hot.control

    @property
    def incidents(self) -> Incidents:
        """The counters of what went wrong on this bus."""
        return Incidents(self.control)

    @property
    def bells(self) -> Bells:
        """The doorbells of the bus."""
        return self._here.bells

    @property
    def hot_fd(self) -> int:
        """Descriptor of the hot directory."""
        return self._here.hot.fd

    @property
    def stale(self) -> bool:
        """True in a forked child, until `ensure`."""
        return self._stale

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._closed

    @property
    def stopping(self) -> bool:
        """True if the bus is being stopped: who waits for something gives up."""
        return bool(self._stopping_word())

    @property
    def hot_id(self) -> int:
        """Which hot directory this client is in: a random number."""
        return self._here.hot.hot_id

    def wake(self) -> None:
        """End a sleep of this client in another thread."""
        self.bells.ring(self.slot.slot)

    @property
    def moving(self) -> bool:
        """True if the bus goes on in another hot directory: follow it with `bus.moves`."""
        return self._stopping_word() > _STOPPED

    def _stopping_word(self) -> int:
        try:
            return self.control.load32_acquire(_STOPPING)
        except CorruptSegmentError:  # bus.ctl was cut: the bus leaves such a hot directory
            return _MOVING

    def catalog_version(self) -> int:
        """A number that changes whenever a topic does."""
        # pairs with the broker's release store after the topic's files are complete
        return self.control.load_acquire(_CATALOG_VERSION)

    def describe_holder(self, slot: int) -> str:
        """Who has a client slot, for messages: "pid 123 (client_id)"."""
        return describe_holder(self.control, slot)

    # --------------------------------------------------------------------------- attaching

    def ensure(self) -> bool:
        """Attach again if this process was forked since. True if it did: caches are void."""
        if not self._stale:
            if self._closed:
                raise ClosedError(f"client {self.client_id!r} is closed; make another one")
            return False
        with self._lock:
            if self._stale:
                self._attach()
                self._stale = False
        return True

    def _attach(self) -> None:
        self._attachment = attach(
            self.directory,
            role=self.role,
            client_id=self.client_id,
            autostart=self._autostart,
            timeout_s=self._timeout_s,
        )
        self._topics.clear()
        self._topics_version = -1
        self._partitions = {}
        self.attachments += 1

    def after_fork(self) -> None:
        """In a forked child: what is attached belongs to the parent."""
        self._lock = threading.RLock()  # a thread that is not here any more may have held it
        attachment = self._attachment
        if attachment is not None and not self._closed:
            attachment.abandon()
            self._stale = True

    def close(self) -> None:
        """Leave the bus. Idempotent; callable from any thread or signal handler."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            attachment, self._attachment = self._attachment, None
            self._partitions = {}
            try:
                if attachment is not None and not self._stale:
                    attachment.leave()
            finally:
                self._stale = False
                self.directory.close()

    # -------------------------------------------------------------------------- the broker

    def call(
        self, op: str, /, *, call_timeout_s: float | None = None, **args: Any
    ) -> dict[str, Any]:
        """Ask the broker and wait for the answer; connects again if there is a new broker.

        Raises what the broker raised, BrokerNotRunningError and BusTimeoutError. A request that
        must not be done twice raises ReplyLostError if the broker died over it.
        """
        self.ensure()
        connection = self._here.control_client
        try:
            return connection.call(op, call_timeout_s=call_timeout_s, **args)
        except BrokerNotRunningError as error:
            unknown = isinstance(error, ReplyLostError) and op not in REPEATABLE
            if op == _STOP or unknown:
                raise
        connection = self._connect_again(connection)
        return connection.call(op, call_timeout_s=call_timeout_s, **args)

    def send(self, op: str, /, **args: Any) -> None:
        """Ask the broker for something without waiting. Raises BrokerNotRunningError."""
        self.ensure()
        connection = self._here.control_client
        try:
            connection.send(op, **args)
        except BrokerNotRunningError:
            self._connect_again(connection).send(op, **args)

    def _connect_again(self, lost: ControlClient) -> ControlClient:
        """A connection in place of the one that was lost; another thread may have made it."""
        with self._lock:
            here = self._here
            if here.control_client is not lost:
                return here.control_client
            lost.close()
            for _ in range(CONNECTS - 1):
                with suppress(ReplyLostError):  # it was just ending: then another one is there
                    return self._connect_once(here)
            return self._connect_once(here)

    def _connect_once(self, here: Attachment) -> ControlClient:
        connection = connect(self.directory, autostart=self._autostart, timeout_s=self._timeout_s)
        if self._same_bus(here.hot):
            here.control_client = connection
            greet(connection, here.slot, self.role, self.client_id)
            return connection
        connection.close()
        here.leave()
        self._attach()
        return self._here.control_client

    def reconnect(self) -> bool:
        """Connect again after the broker, or the whole bus, was gone.

        True if the bus is a new one, and this client is attached anew: caches are void.
        """
        before = self.attachments
        if not self.ensure():
            self._connect_again(self._here.control_client)
        return self.attachments != before

    def _same_bus(self, hot: HotView) -> bool:
        """True if the broker that answers now adopted the hot directory that we are in."""
        runtime = self.directory.read_runtime()
        return runtime is not None and runtime.hot_id == hot.hot_id

    # ------------------------------------------------------------------------------ topics

    def topic(self, name: str, create: bool = False, *, timeout_s: float | None = None) -> Topic:
        """The topic of that name; with `create`, the broker makes it if it does not exist.

        `timeout_s` is for the broker's answer, if it has to be asked.
        Raises UnknownTopicOrPartitionError, InvalidTopicError.
        """
        self.ensure()
        version = self.catalog_version()  # before the look at the disk: a later change counts
        if version != self._topics_version:
            self._topics = {}
            self._topics_version = version
        topic = self._topics.get(name)
        if topic is None:
            topic = Catalog(self.directory).find(name) or self._ask_for(name, create, timeout_s)
            self._topics[name] = topic
        return topic

    def _ask_for(self, name: str, create: bool, timeout_s: float | None) -> Topic:
        if not create:
            return Catalog(self.directory).get(name)
        answer = self.call("topic", name=name, create=True, call_timeout_s=timeout_s)
        return Topic.from_json(answer["topic"])

    def topics(self) -> list[Topic]:
        """All topics, as they stand on disk."""
        return Catalog(self.directory).topics()

    def partition(self, topic: Topic, partition: int) -> Partition:
        """The hot log of a partition, attached once per client.

        Raises UnknownTopicOrPartitionError if the topic has no such partition.
        """
        self.ensure()
        found = self._partitions.get((topic.id, partition))
        if found is None:
            with self._lock:
                found = self._partitions.get((topic.id, partition))
                if found is None:
                    found = self._open_partition(topic, partition)
                    self._partitions[topic.id, partition] = found
        return found

    def attached(self, topic_id: int, partition: int) -> Partition | None:
        """The hot log of a partition if this client has it, by the topic's id."""
        return self._partitions.get((topic_id, partition))

    def _open_partition(self, topic: Topic, partition: int) -> Partition:
        if not 0 <= partition < topic.partitions:
            raise UnknownTopicOrPartitionError(
                f"topic {topic.name!r} has no partition {partition}: it has"
                f" 0 to {topic.partitions - 1}"
            )
        what = f"partition {partition} of topic {topic.name!r} (id {topic.id})"
        with suppress(FileNotFoundError):
            return self._map(topic, partition, what)
        # on disk, but not in RAM: only the broker can make it, or say that the topic is gone
        self.call("topic", name=topic.name, create=False)
        try:
            return self._map(topic, partition, what)
        except FileNotFoundError as error:
            raise UnknownTopicOrPartitionError(
                f"{what} is gone; the topic was deleted, and perhaps made again: ask for it anew"
            ) from error

    def _map(self, topic: Topic, partition: int, what: str) -> Partition:
        here = self._here
        try:
            found = Partition(here.hot.fd, topic.id, partition, here.bells, here.slot.slot)
            found.name = f"{topic.name}-{partition}"
            return found
        except FileNotFoundError:
            raise
        except (CorruptSegmentError, UnsupportedVersionError) as error:
            raise type(error)(f"{here.hot.path}/{error}") from error
        except OSError as error:
            raise translate(error, what) from error
