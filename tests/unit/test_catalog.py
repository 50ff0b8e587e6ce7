"""Topics on disk: a model of them, and what a death in the middle leaves."""

import errno
import json
import os
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bus.catalog import Catalog, Topic
from bus.config import TopicConfig
from bus.directory import BusDirectory
from bus.errors import (
    BusConfigurationError,
    BusError,
    CorruptSegmentError,
    InvalidPartitionsError,
    NoSpaceError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from bus.native.core import LAYOUT

NAMES = st.sampled_from(["a", "b", "A.b", "-", "..."])


@pytest.fixture
def directory(tmp_path):
    with BusDirectory.create(tmp_path) as made:
        yield made


@pytest.fixture
def catalog(directory):
    return Catalog(directory)


class CatalogModel(RuleBasedStateMachine):
    """Random operations on a catalog and on a dict, which must agree."""

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.directory = BusDirectory.create(self.place.name)
        self.catalog = Catalog(self.directory)
        self.expected = {}
        self.ids = set()

    def teardown(self):
        self.directory.close()
        self.place.cleanup()

    @rule(name=NAMES, partitions=st.integers(1, 4))
    def create(self, name, partitions):
        if name in self.expected:
            with pytest.raises(TopicAlreadyExistsError):
                self.catalog.create(name, partitions, TopicConfig())
            return
        topic = self.catalog.create(name, partitions, TopicConfig())
        assert topic.id not in self.ids
        self.ids.add(topic.id)
        self.expected[name] = topic

    @rule(name=NAMES, total=st.integers(1, 6))
    def grow(self, name, total):
        if name not in self.expected:
            with pytest.raises(UnknownTopicOrPartitionError):
                self.catalog.grow(name, total)
        elif total <= self.expected[name].partitions:
            with pytest.raises(InvalidPartitionsError):
                self.catalog.grow(name, total)
        else:
            self.expected[name] = self.catalog.grow(name, total)
            assert self.expected[name].partitions == total

    @rule(name=NAMES, milliseconds=st.integers(0, 9))
    def alter(self, name, milliseconds):
        if name in self.expected:
            topic = self.catalog.alter(name, {"retention.ms": milliseconds})
            assert topic.config.retention_ms == milliseconds
            self.expected[name] = topic

    @rule(name=NAMES)
    def delete(self, name):
        if name in self.expected:
            assert self.catalog.delete(name) == self.expected.pop(name)
        else:
            with pytest.raises(UnknownTopicOrPartitionError, match="bus topics create"):
                self.catalog.delete(name)

    @rule()
    def sweep(self):
        self.catalog.sweep()

    @invariant()
    def the_disk_says_what_was_done(self):
        topics = Catalog(self.directory).topics()
        assert topics == sorted(self.expected.values(), key=lambda topic: topic.name)
        for topic in topics:
            for partition in range(topic.partitions):
                os.close(self.directory.open_partition(topic.name, partition))


TestCatalogModel = CatalogModel.TestCase
TestCatalogModel.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


def test_a_bus_without_topics_has_none(catalog):
    assert catalog.topics() == []
    assert catalog.find("t") is None
    assert catalog.by_id(1) is None


def test_a_topic_travels_as_plain_values():
    topic = Topic(7, "t", 3, TopicConfig(overflow="drop"))
    assert Topic.from_json(json.loads(json.dumps(topic.to_json()))) == topic


def test_a_topic_says_its_flags_as_the_layout_numbers_them():
    config = TopicConfig(durability="memory", overflow="drop")
    assert Topic(1, "t", 1, config).flags == LAYOUT["BUS_FLAG_DROP"]
    config = TopicConfig(message_timestamp_type="LogAppendTime")
    both = LAYOUT["BUS_FLAG_REPLICATED"] | LAYOUT["BUS_FLAG_APPEND_TIME"]
    assert Topic(1, "t", 1, config).flags == both


def test_ids_do_not_repeat_after_a_topic_is_deleted(catalog):
    first = catalog.create("t", 1, TopicConfig())
    catalog.delete("t")
    assert catalog.create("t", 1, TopicConfig()).id > first.id
    assert catalog.next_id() > first.id + 1


def test_a_topic_is_found_by_its_id(catalog):
    topic = catalog.create("t", 1, TopicConfig())
    assert catalog.by_id(topic.id) == topic


def test_durability_cannot_be_altered(catalog):
    catalog.create("t", 1, TopicConfig())
    with pytest.raises(BusConfigurationError, match="create another topic"):
        catalog.alter("t", {"durability": "memory"})


def test_altering_keeps_when_the_topic_was_created(catalog, directory):
    catalog.create("t", 1, TopicConfig())
    created = directory.read_truth("topics/t/topic.json")["created"]
    catalog.alter("t", {"retention.ms": 5})
    assert directory.read_truth("topics/t/topic.json")["created"] == created


@pytest.mark.parametrize("step", range(12))
def test_a_creation_that_dies_at_any_step_made_the_topic_or_nothing(
    catalog, directory, monkeypatch, step
):
    die_after(monkeypatch, step, lambda: catalog.create("t", 2, TopicConfig()))
    topic = catalog.find("t")
    assert topic is None or topic.partitions == 2
    catalog.sweep()
    assert os.listdir(directory.path / "topics") == (["t"] if topic else [])
    if topic is None:
        assert catalog.create("t", 2, TopicConfig()).id > 0


def test_a_creation_without_an_inode_for_its_first_directory_says_so(catalog, monkeypatch):
    """Not that the directory, which it wants to remove again, does not exist."""

    real = os.mkdir

    def full(name, *rest, **place):
        if name.startswith("~new"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(name, *rest, **place)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(NoSpaceError, match="no space left"):
        catalog.create("t", 1, TopicConfig())
    monkeypatch.undo()
    assert catalog.names() == []
    assert catalog.create("t", 1, TopicConfig()).name == "t"


@pytest.mark.parametrize("step", range(4))
def test_a_deletion_that_dies_at_any_step_left_the_topic_or_nothing(
    catalog, directory, monkeypatch, step
):
    topic = catalog.create("t", 2, TopicConfig())
    die_after(monkeypatch, step, lambda: catalog.delete("t"))
    assert catalog.find("t") in (topic, None)
    names = ["t"] if catalog.find("t") else []
    catalog.sweep()
    assert os.listdir(directory.path / "topics") == names


class DiedHereError(BaseException):
    pass


def die_after(monkeypatch, steps, action):
    """Run `action`; its call number `steps` to the disk does nothing but end it."""
    left = steps

    def dying(real):
        def call(*args, **kwargs):
            nonlocal left
            if left == 0:
                raise DiedHereError
            left -= 1
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "mkdir", "rmdir"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            action()
        except DiedHereError:
            assert left == 0


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"id": 0, "name": "t", "partitions": 1, "configs": {}}',
        '{"id": 1, "name": "t", "partitions": 0, "configs": {}}',
        '{"id": 1, "name": "t", "partitions": 1, "configs": {"no.such": "1"}}',
        '{"id": 1, "name": "t", "partitions": 1, "configs": 7}',
        '{"id": 1, "name": "other", "partitions": 1, "configs": {}}',
    ],
)
def test_a_topic_file_that_cannot_be_believed_is_named(catalog, directory, content):
    (directory.path / "topics" / "t").mkdir(parents=True, mode=0o700)
    (directory.path / "topics").chmod(0o700)
    directory.write_truth("topics/t/topic.json", json.loads(content))
    with pytest.raises(CorruptSegmentError, match=r"topics/t/topic\.json"):
        catalog.find("t")


def test_a_counter_that_is_no_number_is_not_started_again(catalog, directory):
    (directory.path / "next_id").write_text("x")
    with pytest.raises(BusError, match="next_id is damaged"):
        catalog.next_id()
