"""The topics of a pipeline and the bus that they are on.

A private pipeline has a bus of its own and topics in memory, gone with it. On a bus that is given,
topics are durable: NAME.STAGE holds what a stage wrote, the share group NAME.STAGE how far it is,
so the pipeline of that name goes on where it was, whatever was killed.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import bus
from bus.errors import TopicAlreadyExistsError
from workers.letters import topic_of
from workers.pipeline.graph import Graph, Node, Source
from workers.private_bus import PrivateBus

#: The reader of the results, as stages are named: no part of a pipeline may be called so.
RESULTS: Final = "results"
_MIB: Final = 1 << 20
_HOT_BYTES_MIN: Final = 64 * _MIB
_MESSAGE_BYTES_MAX: Final = 1 << 30


class Edges:
    """Attributes: `address`, `name`, `is_private`."""

    def __init__(
        self,
        address: "str | os.PathLike[str] | None",
        name: str,
        graph: Graph,
        *,
        wants_results: bool,
        ordered: bool,
    ) -> None:
        """Starts a private bus if there is no address. Raises what reaching a bus raises."""
        self._graph = graph
        self._wants_results = wants_results
        self._ordered = ordered
        self.name = name
        self._bus = PrivateBus() if address is None else None
        self.is_private = self._bus is not None
        self.address = str(self._bus.path) if self._bus else os.fspath(address or "")

    def topic_of(self, node: Node) -> str | None:
        """What a node writes; None if nobody wants it."""
        if node.topic is not None:
            return node.topic
        if self._is_unread(node) and self.is_private:
            return None
        return f"{self.name}.{node.name}"

    def group_of(self, stage: str) -> str:
        """The share group of a stage."""
        return f"{self.name}.{stage}"

    def readers_of(self, node: Node) -> list[str]:
        """The groups that read what a node writes."""
        groups = [self.group_of(stage.name) for stage in self._graph.readers(node.name)]
        if self._wants_results and node in self._graph.ends():
            groups.append(self.group_of(RESULTS))
        return groups

    def _is_unread(self, node: Node) -> bool:
        return not self.readers_of(node)

    def make(self, buffer: int, buffer_bytes: int) -> None:
        """Makes the topics that are not there; those that are get the present limits."""
        own: dict[str, dict[str, object]] = {}
        for node in self._graph.nodes.values():
            topic = self.topic_of(node)
            if topic is not None and node.topic is None:
                own[topic] = self._limits(node, buffer, buffer_bytes)
        with bus.Admin(self.address) as admin:
            if self.is_private:
                self._make_in_memory(admin, own, buffer_bytes)
                return
            for topic, limits in own.items():
                try:
                    admin.create_topics([bus.NewTopic(topic, 1, topic_configs=limits)])
                except TopicAlreadyExistsError:
                    admin.alter_configs({topic: limits})
            self._make_given(admin)

    def _make_in_memory(
        self, admin: bus.Admin, own: Mapping[str, Mapping[str, object]], buffer_bytes: int
    ) -> None:
        """All in one call. The topics of dead letters as well, or they would have replicas."""
        memory = _in_memory(buffer_bytes)
        topics = [
            bus.NewTopic(topic, 1, topic_configs={**memory, **limits})
            for topic, limits in own.items()
        ]
        letters = {
            topic_of(topic, self.group_of(stage.name))
            for stage in self._graph.stages
            for topic in self.formats_before(stage.after)
        }
        admin.create_topics(
            [*topics, *(bus.NewTopic(one, 1, topic_configs=memory) for one in letters)]
        )

    def _make_given(self, admin: bus.Admin) -> None:
        """Topics that the program names: as the broker makes topics, without limits."""
        for node in self._graph.nodes.values():
            if node.topic is not None:
                with suppress(TopicAlreadyExistsError):
                    admin.create_topics([node.topic])

    def _limits(self, node: Node, buffer: int, buffer_bytes: int) -> dict[str, object]:
        groups = self.readers_of(node)
        if self._ordered and self.group_of(RESULTS) in groups:
            groups.remove(self.group_of(RESULTS))  # the first result may stand behind all others
        if not groups:
            return {"max.lag.records": -1, "max.lag.bytes": -1, "max.lag.groups": ""}
        return {
            "max.lag.records": buffer,
            "max.lag.bytes": buffer_bytes,
            "max.lag.groups": ",".join(groups),
        }

    def partitions(self, consumer: bus.Consumer) -> dict[str, list[bus.TopicPartition]]:
        """The partitions of every topic of the pipeline."""
        topics = {self.topic_of(node) for node in self._graph.nodes.values()} - {None}
        return {
            topic: [
                bus.TopicPartition(topic, number)
                for number in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            for topic in topics
            if topic is not None
        }

    def formats_before(self, after: tuple[str, ...]) -> Mapping[str, Any]:
        """The topics of these nodes, each with the format of its values."""
        found = {}
        for name in after:
            node = self._graph.nodes[name]
            topic = self.topic_of(node)
            assert topic is not None  # somebody reads it
            found[topic] = node.values
        return found

    def source_topics(self) -> list[str]:
        """What the sources write, or are."""
        return [topic for source in self._graph.sources if (topic := self.topic_of(source))]

    def close(self) -> None:
        """Ends a private bus."""
        if self._bus is not None:
            self._bus.close()


def _in_memory(buffer_bytes: int) -> dict[str, object]:
    # the lag is at its limit before the ring is full, so that who is waited for is named
    return {
        "durability": "memory",
        "overflow": "block",
        "hot.bytes": max(2 * buffer_bytes, _HOT_BYTES_MIN),
        "max.message.bytes": _MESSAGE_BYTES_MAX,
    }


def is_fed(node: Node) -> bool:
    """True for a source whose items the program sends."""
    return isinstance(node, Source) and node.items is not None
