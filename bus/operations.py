"""What clients may ask of the broker over the control socket: one method per operation.

Every method takes the arguments of the request by name and returns the result. Errors of the
bus travel to the client by their class name.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bus import __version__, lag_watch
from bus.acl import check_known
from bus.catalog import Topic
from bus.config import BrokerConfig, TopicConfig, check_partitions, check_topic_name
from bus.control import Connection, Request
from bus.directory import BusDirectory, Runtime
from bus.errors import (
    BusError,
    IllegalStateError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from bus.files import translate
from bus.groups import Groups
from bus.hotdir import HotDirectory
from bus.inventory import Inventory
from bus.keeper import Keeper
from bus.liveness import death_probe
from bus.open_partition import OpenPartition
from bus.registry import Registry
from bus.share_modes import named_mode
from bus.status import Status

#: In a request for a new topic: as many partitions as the broker gives by default.
DEFAULT_PARTITIONS = -1


class Session:
    """One client's connection, and who is at its other end once it has said hello."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.slot = -1
        self.generation = 0

    @property
    def is_client(self) -> bool:
        """True if it has a slot; `bus status` and the like have none."""
        return self.slot >= 0

    def check_hello(self, slot: int) -> None:
        """Raises IllegalStateError if it has another slot already.

        The broker looks after a slot when its connection ends, and so needs one for each.
        """
        if self.is_client and self.slot != slot:
            raise IllegalStateError(
                f"this connection is that of client slot {self.slot}; slot {slot} needs one of its"
                " own"
            )


class Operations:
    """Answers requests with the parts of one broker."""

    def __init__(
        self,
        directory: BusDirectory,
        hot: HotDirectory,
        runtime: Runtime,
        config: BrokerConfig,
        inventory: Inventory,
        groups: Groups,
        keeper: Keeper,
        registry: Registry,
        status: Status,
        stop: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._hot = hot
        self._runtime = runtime
        self._config = config
        self._inventory = inventory
        self._groups = groups
        self._keeper = keeper
        self._registry = registry
        self._status = status
        self._stop = stop
        self._operations: dict[str, Callable[..., dict[str, Any]]] = {
            "topic": self._topic,
            "topics": self._topics,
            "create_topics": self._create_topics,
            "delete_topics": self._delete_topics,
            "create_partitions": self._create_partitions,
            "alter_configs": self._alter_configs,
            "delete_records": self._delete_records,
            "group": self._group,
            "groups": self._list_groups,
            "delete_group": self._delete_group,
            "share": self._share,
            "shares": self._shares,
            "forget_shares": self._forget_shares,
            "tend": self._tend,
            "status": self._status.collect,
            "stop": self._begin_stop,
        }

    def answer(self, session: Session, request: Request) -> dict[str, Any]:
        """The result of one request. Raises what the client is to be told."""
        if request.op == "hello":
            return self._hello(session, **request.args)
        operation = self._operations.get(request.op)
        if operation is None:
            raise UnsupportedVersionError(
                f"broker {__version__} knows no operation {request.op!r}; use one version of bus"
            )
        return operation(**request.args)

    # -------------------------------------------------------------------------------- clients

    def _hello(
        self, session: Session, *, slot: int, generation: int, **_who: object
    ) -> dict[str, Any]:
        session.check_hello(slot)
        self._registry.connected(slot, generation, session.connection.pid)
        session.slot, session.generation = slot, generation
        return {
            "version": __version__,
            "epoch": self._runtime.epoch,
            "hot_dir": str(self._hot.path),
            "bus_id": self._directory.bus_id_hex,
        }

    def _begin_stop(self) -> dict[str, Any]:
        self._stop()
        return {}

    # --------------------------------------------------------------------------------- topics

    def _topic(self, *, name: str, create: bool = False) -> dict[str, Any]:
        topic = self._inventory.find(check_topic_name(name))
        if topic is None and not create:
            topic = self._inventory.catalog.get(name)  # raises the error that says how to create it
        if topic is None and not self._config.auto_create_topics:
            raise UnknownTopicOrPartitionError(
                f"topic {name!r} does not exist and this broker creates none by itself;"
                f" create it with: bus topics create {name}"
            )
        if topic is None:
            topic = self._create(name, self._config.num_partitions, self._config.topic)
        return {"topic": topic.to_json()}

    def _topics(self) -> dict[str, Any]:
        return {"topics": [topic.to_json() for topic in self._inventory.topics()]}

    def _create_topics(
        self, *, topics: list[Mapping[str, Any]], validate_only: bool = False
    ) -> dict[str, Any]:
        """All or none: every request is checked before the first one is carried out."""
        checked = [self._checked(topic) for topic in topics]
        names = [name for name, _, _ in checked]
        if len(set(names)) < len(names):
            name = next(name for name in names if names.count(name) > 1)
            raise InvalidTopicError(f"topic {name!r} is named twice in one request")
        if validate_only:
            return {
                "topics": [
                    {"id": 0, "name": name, "partitions": n, "configs": config.to_configs()}
                    for name, n, config in checked
                ]
            }
        return {"topics": [self._create(*topic).to_json() for topic in checked]}

    def _checked(self, request: Mapping[str, Any]) -> tuple[str, int, TopicConfig]:
        name = check_topic_name(request["name"])
        partitions = request.get("partitions", DEFAULT_PARTITIONS)
        if partitions == DEFAULT_PARTITIONS:
            partitions = self._config.num_partitions
        config = TopicConfig.from_configs(request.get("configs") or {}, self._config.topic)
        check_known(config.acl_read)
        check_known(config.acl_write)
        if self._inventory.find(name) is not None:
            raise TopicAlreadyExistsError(f"topic {name!r} exists already")
        return name, check_partitions(partitions), config

    def _create(self, name: str, partitions: int, config: TopicConfig) -> Topic:
        topic = self._inventory.catalog.create(name, partitions, config)
        try:
            opened = self._inventory.create(topic)
        except (OSError, BusError) as error:
            # A topic without its hot log is of no use to anybody: take it back, say why.
            self._delete(topic)
            if isinstance(error, OSError) and not isinstance(error, BusError):
                raise translate(error, f"the hot log of topic {name!r}") from error
            raise
        self._keep(opened)
        return topic

    def _keep(self, partitions: list[OpenPartition]) -> None:
        self._keeper.add([partition for partition in partitions if partition.is_replicated])

    def _delete_topics(self, *, names: list[str]) -> dict[str, Any]:
        topics = [self._inventory.catalog.get(name) for name in names]
        for topic in topics:
            try:
                self._delete(topic)
            except BusError:
                if self._inventory.catalog.find(topic.name) is not None:
                    self._keep(self._inventory.create(topic))  # it goes on as it is on disk
                raise
        return {}

    def _delete(self, topic: Topic) -> None:
        """The replicas first: one that still ran would put files into what is being removed."""
        self._inventory.forget(topic)
        self._keeper.remove(topic.id)
        self._inventory.catalog.delete(topic.name)
        self._groups.acks.forget_topic(topic.id)
        self._hot.catalog_changed()

    def _create_partitions(self, *, name: str, total: int) -> dict[str, Any]:
        before = self._inventory.catalog.get(name)
        try:
            topic = self._inventory.catalog.grow(name, total)
            opened = self._inventory.grow(topic)
        except (OSError, BusError):
            if total > before.partitions:  # whatever of it was done is taken back
                self._inventory.shrink(before)
                self._inventory.catalog.restore(before)
            raise
        self._keep(opened)
        return {"topic": topic.to_json()}

    def _alter_configs(self, *, name: str, configs: Mapping[str, object]) -> dict[str, Any]:
        for key in ("acl.read", "acl.write"):
            check_known(str(configs.get(key) or ""))
        topic = self._inventory.catalog.alter(name, configs)
        self._inventory.alter(topic)
        lag_watch.limits_changed(self._inventory, topic)
        return {"topic": topic.to_json()}

    def _delete_records(self, *, name: str, partition: int, offset: int) -> dict[str, Any]:
        found = self._inventory.partition(check_topic_name(name), partition)
        return {"log_start_offset": self._inventory.raise_log_start(found, offset)}

    def _tend(self, *, topic: str | int, partition: int, need: int = 0) -> dict[str, Any]:
        """`topic` is a name or an id. A topic that was just deleted needs nothing."""
        found = (
            self._inventory.by_id(topic, partition)
            if isinstance(topic, int)
            else self._inventory.partition(check_topic_name(topic), partition)
        )
        if found is not None:
            found.check_need(need)
            self._inventory.tend(found, need)
        return {}

    # --------------------------------------------------------------------------------- groups

    def _group(self, *, name: str, create: bool = False) -> dict[str, Any]:
        if create and name not in self._groups:
            self._groups.ensure(name)
            lag_watch.group_changed(self._inventory, name)
        group = self._groups.get(name)
        return {"id": group.id, "name": group.name}

    def _list_groups(self) -> dict[str, Any]:
        return {"groups": self._groups.summaries()}

    def _delete_group(self, *, name: str) -> dict[str, Any]:
        lock_fd = self._registry.lock_fd
        self._groups.delete(name, death_probe(lock_fd, self._hot.control))
        lag_watch.group_changed(self._inventory, name)
        return {}

    def _share(
        self, *, group: str, topic: str, partition: int, start: int, mode: str = "queue"
    ) -> dict[str, Any]:
        """The ack table of a partition for a share group; a new one begins at `start` at best."""
        found = self._inventory.catalog.get(check_topic_name(topic))
        self._inventory.partition(found.name, partition)  # raises if there is none
        return {"table": self._groups.share(group, named_mode(mode), (found.id, partition), start)}

    def _shares(self, *, name: str) -> dict[str, Any]:
        """What the ack tables of a group say, by topic id and partition."""
        acks = self._groups.acks
        found = self._groups.get(name).name
        return {"tables": acks.described(found), "mode": acks.mode(found)}

    def _forget_shares(self, *, name: str, partitions: list[list[int]]) -> dict[str, Any]:
        """The offsets of an empty share group are to be set anew for partitions of topic ids."""
        death = death_probe(self._registry.lock_fd, self._hot.control)
        self._groups.forget_shares(name, [(topic, number) for topic, number in partitions], death)
        return {}
