"""Small values: shapes that users of kafka-python know."""

import pytest

from bus.structs import (
    ConsumerGroupMetadata,
    NewTopic,
    OffsetAndMetadata,
    RecordMetadata,
    TopicPartition,
)


def test_record_metadata_knows_its_topic_partition():
    metadata = RecordMetadata("t", 3, offset=7, timestamp=1000)
    assert metadata.topic_partition == TopicPartition("t", 3)
    assert (metadata.serialized_key_size, metadata.serialized_value_size) == (-1, -1)


def test_an_offset_needs_no_metadata():
    assert OffsetAndMetadata(5) == (5, "", -1)


def test_group_metadata_of_a_consumer_that_has_not_joined_is_empty():
    assert ConsumerGroupMetadata("g") == ("g", -1, "", None)


def test_a_new_topic_has_one_partition_and_configs_of_its_own():
    assert NewTopic("t").num_partitions == 1
    assert NewTopic("t").topic_configs is not NewTopic("t").topic_configs


def test_values_cannot_be_changed():
    with pytest.raises(AttributeError):
        NewTopic("t").name = "u"
