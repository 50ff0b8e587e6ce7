"""TopicAdmin: create, describe, alter and delete topics, their partitions and their records."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from bus.admin.handle import Handle
from bus.catalog import Topic
from bus.errors import BusTimeoutError, UnknownTopicOrPartitionError
from bus.lag_report import LagReport
from bus.structs import NewTopic, TopicPartition

NewTopics = Mapping[str, Mapping[str, Any]] | Iterable[str | NewTopic]

#: How long a call that waits for topics sleeps between two looks.
_LOOK_AGAIN_S = 0.01


class TopicAdmin(Handle):
    """The part of an Admin that works on topics."""

    def create_topics(
        self, new_topics: NewTopics, *, timeout_ms: float | None = None, validate_only: bool = False
    ) -> dict[str, list[dict[str, Any]]]:
        """Create topics, all or none; with `validate_only` say only whether it could be done.

        `new_topics` is a list of names and NewTopic, or {name: {"num_partitions": …, "configs":
        {…}}}. Returns {"topics": [{"name", "topic_id", "num_partitions", "configs"}]}. Raises
        TopicAlreadyExistsError, InvalidTopicError, InvalidPartitionsError, BusConfigurationError.
        """
        topics = [_as_request(topic) for topic in _as_new_topics(new_topics)]
        answer = self._client.call(
            "create_topics",
            call_timeout_s=_seconds(timeout_ms),
            topics=topics,
            validate_only=validate_only,
        )
        return {"topics": [_as_created(topic) for topic in answer.get("topics", topics)]}

    def delete_topics(
        self, topics: Iterable[str], *, timeout_ms: float | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """Delete topics with all their records. Raises UnknownTopicOrPartitionError.

        Returns {"topics": [{"name"}]}.
        """
        names = _names(topics)
        self._client.call("delete_topics", call_timeout_s=_seconds(timeout_ms), names=names)
        return {"topics": [{"name": name} for name in names]}

    def list_topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(topic["name"] for topic in self._topics())

    def describe_topics(self, topics: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Each topic with its configs and, per partition, the offsets and who replicates it.

        Raises UnknownTopicOrPartitionError for a name that does not exist. Every dict has "name",
        "topic_id", "configs" and "partitions": [{"partition_index", "log_start_offset",
        "log_end_offset", "high_watermark", "replica_pid"}]. "lag" has a row for each partition and
        group that producers wait for: {"topic", "partition", "group", "committed", "records",
        "bytes", "holds_up", "reader"}.
        """
        return [
            {
                "name": topic["name"],
                "topic_id": topic["id"],
                "configs": topic["configs"],
                "partitions": [
                    self._describe_partition(TopicPartition(topic["name"], partition))
                    for partition in range(topic["partitions"])
                ],
                "lag": self._lag_of(topic),
            }
            for topic in self._selected(topics)
        ]

    def wait_for_topics(self, topic_names: Iterable[str], timeout_ms: float = 10_000) -> None:
        """Wait until all these topics exist. Raises BusTimeoutError, naming those that do not."""
        wanted = _names(topic_names)
        deadline = time.monotonic() + timeout_ms / 1000
        while missing := sorted(set(wanted) - set(self.list_topics())):
            if time.monotonic() >= deadline:
                raise BusTimeoutError(
                    f"after {timeout_ms:g} ms there is no topic {', '.join(missing)}; "
                    "create it with create_topics"
                )
            time.sleep(_LOOK_AGAIN_S)

    def create_partitions(
        self, topic_partitions: Mapping[str, int], *, timeout_ms: float | None = None
    ) -> None:
        """Grow topics to so many partitions in total. Raises InvalidPartitionsError if fewer.

        Keys go to other partitions from then on, as in Kafka.
        """
        for name, total in topic_partitions.items():
            self._client.call(
                "create_partitions", call_timeout_s=_seconds(timeout_ms), name=name, total=total
            )

    def describe_configs(self, topics: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
        """All configs of these topics (None: of all topics), as {topic: {"retention.ms": …}}."""
        return {topic["name"]: topic["configs"] for topic in self._selected(topics)}

    def alter_configs(self, configs: Mapping[str, Mapping[str, object]]) -> None:
        """Change some configs of topics, {topic: {"retention.ms": 60_000}}; None: the default.

        Raises BusConfigurationError for a config that does not exist or a value out of range.
        """
        for name, changes in configs.items():
            self._client.call("alter_configs", name=name, configs=dict(changes))

    def delete_records(
        self, records_to_delete: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Forget all records below an offset (-1: all there are). Returns the new log starts.

        Raises OffsetOutOfRangeError for an offset beyond the log end.
        """
        return {
            TopicPartition(*partition): self._delete_records(TopicPartition(*partition), offset)
            for partition, offset in records_to_delete.items()
        }

    def _delete_records(self, partition: TopicPartition, offset: int) -> int:
        if offset == -1:
            offset = self._log(partition).log_end_offset
        answer = self._client.call(
            "delete_records", name=partition.topic, partition=partition.partition, offset=offset
        )
        return int(answer["log_start_offset"])

    def _describe_partition(self, partition: TopicPartition) -> dict[str, Any]:
        log = self._log(partition)
        return {
            "partition_index": partition.partition,
            "log_start_offset": log.log_start_offset,
            "log_end_offset": log.log_end_offset,
            "high_watermark": log.high_watermark,
            "replica_pid": log.replica_pid,
        }

    def _lag_of(self, topic: Mapping[str, Any]) -> list[dict[str, Any]]:
        client, found = self._client, Topic.from_json(topic)
        if not found.config.lag_limited:
            return []
        report = LagReport(client.hot_fd, client.control, client.slot.fd)
        rows: list[dict[str, Any]] = []
        for number in range(found.partitions):
            log = self._log(TopicPartition(found.name, number))
            rows += report.rows(client.directory, found, log)
        return rows

    def _topics(self) -> list[dict[str, Any]]:
        topics: list[dict[str, Any]] = self._client.call("topics")["topics"]
        return sorted(topics, key=lambda topic: str(topic["name"]))

    def _selected(self, names: Iterable[str] | None) -> list[dict[str, Any]]:
        topics = self._topics()
        if names is None:
            return topics
        by_name = {topic["name"]: topic for topic in topics}
        return [by_name.get(name) or _unknown(name) for name in _names(names)]


def _unknown(name: str) -> dict[str, Any]:
    raise UnknownTopicOrPartitionError(
        f"topic {name!r} does not exist; create it with: bus topics create {name}"
    )


def _names(topics: Iterable[str]) -> list[str]:
    return [topics] if isinstance(topics, str) else list(topics)


def _seconds(timeout_ms: float | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1000


def _as_new_topics(new_topics: NewTopics) -> list[NewTopic]:
    if isinstance(new_topics, Mapping):
        return [
            NewTopic(name, given.get("num_partitions", -1), topic_configs=given.get("configs", {}))
            for name, given in new_topics.items()
        ]
    listed = [new_topics] if isinstance(new_topics, str | NewTopic) else new_topics
    return [NewTopic(topic, -1) if isinstance(topic, str) else topic for topic in listed]


def _as_request(topic: NewTopic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "partitions": topic.num_partitions,
        "configs": dict(topic.topic_configs),
    }


def _as_created(topic: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": topic["name"],
        "topic_id": topic.get("id"),
        "num_partitions": topic["partitions"],
        "configs": topic["configs"],
    }
