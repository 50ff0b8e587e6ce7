"""The judge finds every violation of the log in a history made by hand, and none in a legal one."""

from typing import Any

import pytest

from tests.soak.story import MS, TOPIC, Story


def test_what_was_acknowledged_and_is_there_is_legal() -> None:
    story = Story()
    story.sent(3, acks="all")
    story.final(0, [0, 1, 2])
    story.final(0, [0, 1, 2], which="after a stop")
    assert story.kinds == set()


@pytest.mark.parametrize("acks", [1, "all"])
def test_an_acknowledged_record_that_is_not_in_the_log_is_lost(acks: Any) -> None:
    story = Story()
    story.sent(3, acks=acks)
    story.final(0, [0, 1])
    assert story.kinds == {"lost"}


def test_a_record_that_is_gone_only_after_the_next_start_is_lost() -> None:
    story = Story()
    story.sent(3, acks="all")
    story.final(0, [0, 1, 2])
    story.final(0, [0, 1], which="after a power cut")
    assert story.kinds == {"lost"}


def test_an_acknowledged_batch_that_nobody_ever_saw_is_lost() -> None:
    story = Story()
    story.send(2)
    story.store(-1, 1)
    story.final(0, [[2, 0], 1])
    story.send(1, producer=2)
    assert story.kinds == {"lost"}


def test_acks_0_promises_nothing_and_an_unknown_outcome_may_be_there_or_not() -> None:
    story = Story()
    story.sent(1, acks=0)
    story.send(1, first=1)
    story.send(1, first=2)
    story.final(0, [2])
    assert story.kinds == set()
    story = Story()
    story.send(2, acks="all")
    story.final(0, [1])
    assert story.kinds == set()


@pytest.mark.parametrize(("acks", "kinds"), [(1, set()), ("all", {"lost"})])
def test_a_loss_of_all_memory_takes_what_is_only_stored(acks: Any, kinds: set[str]) -> None:
    story = Story()
    story.sent(2, acks=acks)
    story.tell("loss", "reboot", story.now)
    story.final(0, [0])
    assert story.kinds == kinds


def test_what_is_sent_after_a_loss_of_all_memory_is_not_excused_by_it() -> None:
    story = Story()
    story.tell("loss", "reboot", story.now)
    story.sent(2)
    story.final(0, [0])
    assert story.kinds == {"lost"}


def test_a_stop_takes_memory_topics_only() -> None:
    for durability, kinds in (("memory", set()), ("replicated", {"lost"})):
        story = Story(durability=durability)
        story.sent(2)
        story.tell("loss", "stop", story.now)
        story.final(0, [0])
        assert story.kinds == kinds


def test_retention_may_take_what_is_below_the_log_start_and_nothing_else() -> None:
    story = Story(**{"retention.bytes": 1 << 20})
    story.sent(3)
    story.final(1, [1, 2])
    assert story.kinds == set()
    story = Story()
    story.sent(3)
    story.final(1, [1, 2])
    assert story.kinds == {"lost", "shrunk"}


def test_a_deleted_topic_takes_all_its_records() -> None:
    story = Story()
    story.sent(3)
    story.tell("deleted", TOPIC)
    assert story.kinds == set()


def test_a_record_at_two_offsets_is_a_duplicate() -> None:
    story = Story()
    story.send(2)
    story.store(0, 1)
    story.final(0, [0, 1, 1])
    assert "duplicate" in story.kinds


def test_two_records_at_one_offset_are_a_conflict_even_between_two_readers() -> None:
    story = Story()
    story.send(2)
    story.open("a.1", None)
    story.open("b.1", None)
    story.got("a.1", 0, [0])
    story.got("b.1", 0, [1])
    assert story.kinds == {"conflict"}


def test_a_reader_and_the_log_after_a_new_start_must_agree() -> None:
    story = Story()
    story.send(2)
    story.open("a.1", None)
    story.got("a.1", 0, [0, 1])
    story.final(0, [1, 0], which="after a stop")
    assert {"conflict", "duplicate"} <= story.kinds


@pytest.mark.parametrize("name", [None, [7, 7]])
def test_bytes_that_nobody_sent_are_a_phantom(name: Any) -> None:
    story = Story()
    story.sent(1)
    story.final(0, [0, name])
    assert "phantom" in story.kinds


def test_a_record_whose_send_raised_must_not_be_there() -> None:
    story = Story()
    story.send(2)
    story.store(0)
    story.tell("refused", 1, [1], "BackpressureError")
    story.final(0, [0, 1])
    assert story.kinds == {"refused"}


def test_a_record_elsewhere_than_the_producer_was_told_has_moved() -> None:
    story = Story()
    story.send(2)
    story.store(1, 0)
    story.final(0, [0, 1])
    assert "moved" in story.kinds


def test_records_of_a_producer_keep_their_order() -> None:
    story = Story()
    story.send(2)
    story.final(0, [1, 0])
    assert story.kinds == {"reordered"}


def test_records_of_two_producers_may_come_in_any_order() -> None:
    story = Story()
    story.send(2)
    story.send(2, producer=2)
    story.final(0, [[2, 0], 0, [2, 1], 1])
    assert story.kinds == set()


def test_an_offset_without_a_record_is_a_hole_unless_memory_was_lost() -> None:
    def story_with(*losses: str) -> Story:
        story = Story()
        story.send(3)
        for loss in losses:
            story.tell("loss", loss, story.now)
        story.tell("final", "at the end", TOPIC, 0, 0, 10, [[0, [[1, 0]]], [9, [[1, 1]]]])
        return story

    assert story_with().kinds == {"hole"}
    assert story_with("stop").kinds == {"hole"}
    assert story_with("reboot").kinds == set()


def test_offsets_jump_to_a_limit_after_a_stop_and_nowhere_else() -> None:
    def story_with(next_offset: int, *losses: str, end: int = 1) -> Story:
        story = Story()
        story.send(3)
        for loss in losses:
            story.tell("loss", loss, story.now)
        runs = [[0, [[1, 0]]], [next_offset, [[1, 1]]]]
        story.tell("final", "at the end", TOPIC, 0, 0, next_offset + end, runs)
        return story

    assert story_with(1 << 24, "stop").kinds == set()
    assert story_with(1 << 24).kinds == {"hole"}
    assert story_with((1 << 24) - 1, "stop").kinds == {"hole"}
    assert story_with(1 << 24, "stop", end=2).kinds == {"hole"}


def test_an_empty_partition_starts_at_the_reserved_limit_after_a_power_cut() -> None:
    story = Story()
    story.tell("final", "at the end", TOPIC, 0, 0, 0, [])
    story.tell("final", "after a power cut", TOPIC, 0, 1 << 24, 1 << 24, [])
    assert story.kinds == set()
    story.tell("final", "after a stop", TOPIC, 0, 1 << 24, 1 << 24, [])
    assert story.kinds == {"shrunk"}


def test_an_error_that_no_kill_explains_and_a_giant_are_found() -> None:
    story = Story()
    story.tell("error", "producer-1", "send", "BackpressureError", "full")
    story.tell("memory", "broker", 1, 30 << 20, 40, 1.0)
    assert story.kinds == set()
    story.tell("error", "consumer-1", "poll", "CorruptRecordError", "damaged")
    assert story.kinds == {"wrong error"}
    story.tell("memory", "broker", 1, 900 << 20, 40, 1.0)
    assert story.kinds == {"wrong error", "memory"}


def test_recovery_is_measured_from_an_action_to_the_next_acknowledged_send() -> None:
    story = Story()
    began = story.tell("action", "kill: broker", story.now, "broker")
    story.now += 500 * MS
    story.sent(1)
    assert story.history.slowest_recovery_s() == pytest.approx((story.now - began + MS) / 1e9)
