"""The topics of a bus, as they stand on disk. The broker writes them, everybody may read.

    topics/NAME/topic.json   truth   {"id", "name", "partitions", "configs", "created",
                                      "opened"}
    topics/NAME/P/           one directory per partition
    next_id                  truth   the next id of a topic or group; ids never repeat
    *.copy                           both are kept twice, see `bus.twofold`

A topic exists if and only if topics/NAME/topic.json does. It is built under a name that no topic
can have ("~new-ID") and renamed, and it is renamed ("~old-ID") before it is removed: a death
in between leaves one of those two names, and `sweep` removes it.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bus import files, twofold
from bus.config import PARTITIONS_MAX, TopicConfig, check_partitions, check_topic_name
from bus.directory import BusDirectory, timestamp
from bus.errors import (
    BusConfigurationError,
    BusError,
    CorruptSegmentError,
    DirectoryError,
    InvalidPartitionsError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

logger = logging.getLogger(__name__)

TOPIC_FILE: Final = "topic.json"
NEXT_ID_FILE: Final = "next_id"
#: ids are 32-bit in the tables of groups
ID_MAX: Final = (1 << 32) - 1
_UNFINISHED: Final = "~"
#: in topic.json: so many partitions have had a state
_OPENED: Final = "opened"


@dataclass(frozen=True)
class Topic:
    """A topic: what its files are named after, and how it is configured."""

    id: int
    name: str
    partitions: int
    config: TopicConfig

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Topic":
        """A topic as it travels and as it is stored. Raises CorruptSegmentError if it is none."""
        try:
            number, partitions = int(content["id"]), int(content["partitions"])
            if not (0 < number <= ID_MAX and 0 < partitions <= PARTITIONS_MAX):
                raise ValueError(f"id {number}, {partitions} partitions")
            config = TopicConfig.from_configs(content["configs"])
            return cls(number, check_topic_name(content["name"]), partitions, config)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptSegmentError(f"not a description of a topic: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """The topic as plain values."""
        return {
            "id": self.id,
            "name": self.name,
            "partitions": self.partitions,
            "configs": self.config.to_configs(),
        }

    @property
    def flags(self) -> int:
        """The BUS_FLAG_… bits of its partitions."""
        from bus.native.core import LAYOUT  # here, so that reading topics needs no compiled core

        config = self.config
        return (
            (LAYOUT["BUS_FLAG_REPLICATED"] if config.replicated else 0)
            | (LAYOUT["BUS_FLAG_DROP"] if config.drops else 0)
            | (LAYOUT["BUS_FLAG_APPEND_TIME"] if config.append_time else 0)
        )


class Catalog:
    """All topics of one bus directory."""

    def __init__(self, directory: BusDirectory) -> None:
        self._directory = directory

    # ---------------------------------------------------------------------------- everybody

    def topics(self) -> list[Topic]:
        """Every topic, by name."""
        found = (self.find(name) for name in self.names())
        return [topic for topic in found if topic is not None]

    def find(self, name: str) -> Topic | None:
        """The topic of that name, None if there is none."""
        relative = topic_path(check_topic_name(name))
        content = self._directory.read_truth(relative)
        if content is None:
            return None
        try:
            topic = Topic.from_json(content)
        except CorruptSegmentError as error:
            raise CorruptSegmentError(f"{self._directory.path / relative}: {error}") from error
        if topic.name != name:
            raise CorruptSegmentError(
                f"{self._directory.path / relative} describes topic {topic.name!r}; directories of"
                " topics must not be renamed or copied"
            )
        return topic

    def get(self, name: str) -> Topic:
        """The topic of that name. Raises UnknownTopicOrPartitionError."""
        topic = self.find(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(
                f"topic {name!r} does not exist; create it with: bus topics create {name}"
            )
        return topic

    def by_id(self, number: int) -> Topic | None:
        """The topic with that id, None if there is none."""
        return next((topic for topic in self.topics() if topic.id == number), None)

    def names(self) -> list[str]:
        """The directories in which a topic must be."""
        return [name for name in self._names() if not name.startswith(_UNFINISHED)]

    def _names(self) -> list[str]:
        path = self._directory.topics_path
        try:
            with files.explained(str(path)):
                names = sorted(os.listdir(path))
        except DirectoryError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []
            raise
        return [name for name in names if name.startswith(_UNFINISHED) or _is_topic_name(name)]

    # --------------------------------------------------------------------------- the broker

    def create(self, name: str, partitions: int, config: TopicConfig) -> Topic:
        """Make a topic, durably. Raises TopicAlreadyExistsError."""
        check_topic_name(name)
        check_partitions(partitions)
        if self.find(name) is not None:
            raise TopicAlreadyExistsError(f"topic {name!r} exists already")
        topic = Topic(self.next_id(), name, partitions, config)
        topics = self._directory.open_topics()
        unfinished = f"{_UNFINISHED}new-{topic.id}"
        try:
            self._build(topics, unfinished, topic)
            self._rename(topics, unfinished, name)
            files.sync_directory(self._directory.fd)
        except BusError:
            # It may have its name already, but the caller is told that it was not made.
            with suppress(OSError):
                os.rename(name, unfinished, src_dir_fd=topics, dst_dir_fd=topics)
            if unfinished in os.listdir(topics):
                _remove(topics, unfinished)
            raise
        finally:
            os.close(topics)
        return topic

    def alter(self, name: str, configs: Mapping[str, object]) -> Topic:
        """Change some configs; None sets one back to its default.

        Raises BusConfigurationError for `durability`, which is fixed when the topic is created.
        """
        topic = self.get(name)
        config = TopicConfig.from_configs(configs, topic.config)
        if config.durability != topic.config.durability:
            raise BusConfigurationError(
                f"the durability of topic {name!r} cannot be changed; create another topic"
            )
        return self._store(replace(topic, config=config))

    def grow(self, name: str, total: int) -> Topic:
        """Raise the number of partitions to `total`; InvalidPartitionsError if that is less."""
        topic = self.get(name)
        check_partitions(total)
        if total <= topic.partitions:
            raise InvalidPartitionsError(
                f"topic {name!r} has {topic.partitions} partitions; it can only be given more"
            )
        fd = self._directory.open_topic(name)
        try:
            _make_partitions(fd, total)
        finally:
            os.close(fd)
        return self._store(replace(topic, partitions=total))

    def restore(self, topic: Topic) -> None:
        """Take back a change that could not be carried out."""
        self._store(topic)

    def delete(self, name: str) -> Topic:
        """Remove a topic with all its records."""
        topic = self.get(name)
        topics = self._directory.open_topics()
        try:
            old = f"{_UNFINISHED}old-{topic.id}"
            self._rename(topics, name, old)
            try:
                _remove(topics, old)
            except DirectoryError as error:  # it is deleted all the same
                logger.error("%s; the next start of a broker removes what is left", error)
        finally:
            os.close(topics)
        return topic

    def sweep(self) -> None:
        """Remove what creations and deletions left that a death cut short; the rest is durable.

        A topic that a broker had renamed and did not live to sync is there for everybody: what
        is acknowledged in it from now on must not be gone with its name after a power loss.
        """
        files.settle(self._directory.fd)
        topics = self._directory.open_topics()
        try:
            for name in self._names():
                if name.startswith(_UNFINISHED):
                    _remove(topics, name)
                else:
                    _settle(topics, name)
            files.sync_directory(topics)
        finally:
            os.close(topics)

    def next_id(self) -> int:
        """A number that no topic and no group has had, durably."""
        content = self._directory.read_truth(NEXT_ID_FILE)
        number = 1 if content is None else int(content["next_id"])
        self._directory.write_truth(NEXT_ID_FILE, {"next_id": number + 1})
        return number

    def opened(self, topic: Topic) -> None:
        """Every partition has its state on disk: from now on a missing one was lost."""
        relative = topic_path(topic.name)
        content = self._directory.read_truth(relative) or {}
        if content.get(_OPENED) != topic.partitions:
            self._directory.write_truth(relative, {**content, _OPENED: topic.partitions})

    def opened_partitions(self, name: str) -> int:
        """How many partitions must have a state."""
        content = self._directory.read_truth(topic_path(name)) or {}
        return int(content.get(_OPENED, 0))

    def rebuild(self, topic: Topic) -> None:
        """Write a lost topic.json again."""
        content = {**topic.to_json(), "created": timestamp(), _OPENED: topic.partitions}
        self._directory.write_truth(topic_path(topic.name), content)

    # ------------------------------------------------------------------------------ details

    def _build(self, topics: int, name: str, topic: Topic) -> None:
        fd = files.open_directory(name, dir_fd=topics, create=True)
        try:
            _make_partitions(fd, topic.partitions)
            seal = self._directory.seal(topic_path(topic.name))
            content = {**topic.to_json(), "created": timestamp()}
            twofold.write(fd, TOPIC_FILE, content, seal)
        finally:
            os.close(fd)

    def _store(self, topic: Topic) -> Topic:
        relative = topic_path(topic.name)
        before = self._directory.read_truth(relative) or {}
        opened = min(before.get(_OPENED, 0), topic.partitions)
        self._directory.write_truth(relative, {**before, **topic.to_json(), _OPENED: opened})
        return topic

    def _rename(self, topics: int, old: str, new: str) -> None:
        with files.explained(str(self._directory.topics_path / new)):
            os.rename(old, new, src_dir_fd=topics, dst_dir_fd=topics)
            os.fsync(topics)


def topic_path(name: str) -> str:
    """The file that makes a topic, relative to the bus directory."""
    return f"topics/{name}/{TOPIC_FILE}"


def _is_topic_name(name: str) -> bool:
    try:
        check_topic_name(name)
    except InvalidTopicError:
        return False
    return True


def _make_partitions(topic_fd: int, total: int) -> None:
    for partition in range(total):
        os.close(files.open_directory(str(partition), dir_fd=topic_fd, create=True))
    files.sync_directory(topic_fd)


def _settle(topics: int, name: str) -> None:
    fd = files.open_directory(name, dir_fd=topics)
    try:
        files.settle(fd)
    finally:
        os.close(fd)


def _remove(topics: int, name: str) -> None:
    import shutil  # here, because it loads every codec of the standard library

    path = Path(files.path_of(topics)) / name
    with files.explained(str(path)):
        shutil.rmtree(name, dir_fd=topics)
