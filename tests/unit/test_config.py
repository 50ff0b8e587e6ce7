"""Options and names: what is let in, what is not, and what the answer says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.config import (
    CLIENTS_MAX,
    GIB,
    HOT_SEGMENTS_MAX,
    MIB,
    BrokerConfig,
    TopicConfig,
    check_client_id,
    check_options,
    check_partitions,
    check_topic_name,
    config_names,
)
from bus.errors import (
    BusConfigurationError,
    InvalidGroupIdError,
    InvalidPartitionsError,
    InvalidTopicError,
)
from bus.group_ids import check_group_id, quote_group
from bus.native.core import LAYOUT

SEGMENT_BYTES = st.integers(MIB, GIB)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "durability": st.sampled_from(["replicated", "memory"]),
        "overflow": st.sampled_from(["block", "drop"]),
        "retention.ms": st.integers(-1, 1 << 62),
        "retention.bytes": st.integers(-1, 1 << 62),
        "hot.bytes": st.integers(4 * MIB, 64 * MIB),
        "segment.bytes": SEGMENT_BYTES,
        "max.message.bytes": st.integers(1, GIB),
        "compression.type": st.sampled_from(["none", "producer"]),
        "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
        "max.lag.groups": st.sampled_from(["g", "g, h"]),
    },
)


def test_limits_are_those_of_the_layout():
    assert LAYOUT["BUS_RING_SLOTS"] == HOT_SEGMENTS_MAX
    assert LAYOUT["BUS_CLIENTS"] == CLIENTS_MAX


@given(CONFIGS)
def test_topic_configs_survive_the_way_to_text_and_back(configs):
    config = TopicConfig.from_configs(configs)
    assert TopicConfig.from_configs(config.to_configs()) == config
    assert set(config.to_configs()) == set(config_names())


@given(CONFIGS)
def test_numbers_may_be_given_as_text(configs):
    text = {key: str(value) for key, value in configs.items()}
    assert TopicConfig.from_configs(text) == TopicConfig.from_configs(configs)


@given(CONFIGS, CONFIGS)
def test_an_alteration_changes_only_what_it_names(before, changes):
    base = TopicConfig.from_configs(before)
    after = TopicConfig.from_configs(changes, base).to_configs()
    assert after == {**base.to_configs(), **{k: str(v) for k, v in changes.items()}}


def test_none_sets_a_config_back_to_its_default():
    base = TopicConfig(retention_ms=5)
    assert TopicConfig.from_configs({"retention.ms": None}, base) == TopicConfig()


@given(SEGMENT_BYTES, st.integers(4 * MIB, 64 * MIB))
def test_the_ring_holds_at_least_four_segments_and_at_most_as_many_as_it_has_slots(segment, hot):
    config = TopicConfig(segment_bytes=segment, hot_bytes=hot)
    assert 4 <= hot // config.hot_segment_bytes <= HOT_SEGMENTS_MAX
    assert config.hot_segment_bytes <= segment


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"retention.m": 1}, "did you mean 'retention.ms'"),
        ({"zzz": 1}, "valid are: acl.read, acl.write, cleanup.policy"),
        ({7: 1}, "unknown topic config 7"),
        ({"cleanup.policy": "compact"}, "'compact' is not implemented yet; use delete"),
        ({"compression.type": "zstd"}, "not implemented yet"),
        ({"max.lag.records": 5}, "need max.lag.groups: the consumer groups that producers"),
        ({"max.lag.bytes": 5, "max.lag.groups": " "}, "need max.lag.groups"),
        ({"max.lag.records": 0, "max.lag.groups": "g"}, "from 1 to"),
        ({"max.lag.groups": 7}, "must be group ids separated by commas, not 7"),
        ({"max.lag.groups": "a,,b"}, "'a,,b': a group id must be a str of 1 character"),
        ({"max.lag.groups": "a, b, a"}, "can name 16 groups, each of them once"),
        ({"max.lag.groups": ",".join(map(str, range(17)))}, "can name 16 groups"),
        ({"durability": "disk"}, "must be replicated or memory, not 'disk'"),
        ({"segment.bytes": MIB - 1}, f"from {MIB} to {GIB}"),
        ({"segment.bytes": GIB + 1}, f"from {MIB} to {GIB}"),
        ({"segment.bytes": "many"}, "must be a whole number, not 'many'"),
        ({"segment.bytes": True}, "not True"),
        ({"segment.bytes": 2.5 * MIB}, "whole number"),
        ({"hot.bytes": MIB}, "'hot.bytes'"),
        ({"max.message.bytes": 0}, "'max.message.bytes'"),
        ({"retention.ms": -2}, "or -1 for no limit, not -2"),
        ({"hot.bytes": GIB, "segment.bytes": MIB}, "raise segment.bytes to 16777216"),
    ],
)
def test_a_bad_topic_config_is_refused_with_the_way_out(configs, message):
    with pytest.raises(BusConfigurationError, match=re.escape(message)):
        TopicConfig.from_configs(configs)


def test_an_unknown_option_is_refused_with_the_nearest_valid_one():
    with pytest.raises(TypeError, match="unknown option 'linger_sec'; did you mean 'linger_s'"):
        check_options(BrokerConfig, ["num_partitions", "linger_sec"])
    check_options(["a", "b"], ["b"])


@given(st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True))
def test_a_kafka_topic_name_is_taken(name):
    if name not in (".", ".."):
        assert check_topic_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "a\n", "ä", "a b", "\0", "~new-1", "a" * 250, None, b"a"]
)
def test_any_other_topic_name_is_refused(name):
    with pytest.raises(InvalidTopicError):
        check_topic_name(name)


@given(st.text(min_size=1, max_size=20))
def test_a_group_id_is_quoted_so_that_it_cannot_leave_its_directory(group):
    try:
        quoted = quote_group(check_group_id(group)) + ".offsets"
    except InvalidGroupIdError:
        assert any("\ud800" <= one <= "\udfff" for one in group)
        return
    assert "/" not in quoted
    assert "\0" not in quoted
    assert quoted not in (".", "..")
    assert len(quoted) <= 255


@pytest.mark.parametrize("group", ["", None, 7, "a" * 241, "ä" * 41, "\ud800"])
def test_a_group_id_that_fits_no_file_name_is_refused(group):
    with pytest.raises(InvalidGroupIdError):
        check_group_id(group)


@pytest.mark.parametrize("count", [0, -1, 1025, True, "3", 1.0, None])
def test_a_number_of_partitions_out_of_range_is_refused(count):
    with pytest.raises(InvalidPartitionsError, match="1 to 1024"):
        check_partitions(count)


@pytest.mark.parametrize("client_id", ["", None, "a\n", "x" * 96, "ä" * 48])
def test_a_client_id_that_does_not_fit_its_place_is_refused(client_id):
    with pytest.raises(BusConfigurationError, match="client_id"):
        check_client_id(client_id)


def test_a_broker_config_travels_as_json():
    config = BrokerConfig(num_partitions=4, linger_s=0.5, topic=TopicConfig(overflow="drop"))
    assert BrokerConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "options",
    [
        {"retention_check_ms": 0},
        {"linger_s": -1},
        {"linger_s": float("nan")},
        {"linger_s": "1"},
        {"partitions_per_replica": True},
        {"num_partitions": 0},
    ],
)
def test_a_bad_broker_option_is_refused(options):
    with pytest.raises((BusConfigurationError, InvalidPartitionsError)):
        BrokerConfig(**options)


def test_an_unknown_broker_option_is_refused_with_the_nearest_valid_one():
    with pytest.raises(TypeError, match="did you mean 'linger_s'"):
        BrokerConfig.from_json({"lingers": 1})
