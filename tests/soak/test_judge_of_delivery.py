"""The judge finds every violation of delivery in a hand-made history, and none in a legal one."""

import pytest

from tests.soak.story import Story

A, B = "consumer-1.1", "consumer-2.1"


def told(**config: object) -> Story:
    """Six records are there, two members have come."""
    story = Story(**config)
    story.sent(6, acks="all")
    story.open(A)
    story.open(B)
    return story


def test_a_group_that_was_given_everything_once_is_legal() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.commit(A, 3)
    story.got(B, 3, [3, 4, 5])
    story.commit(B, 6)
    story.sample(6, 6)
    story.tell("closed", A, True)
    story.tell("closed", B, True)
    story.final(0, range(6))
    assert story.kinds == set()


def test_a_commit_past_a_record_that_nobody_was_given_is_a_skip() -> None:
    story = told()
    story.got(A, 0, [0, 1])
    story.got(A, 3, [3, 4, 5])
    story.commit(A, 6)
    story.final(0, range(6))
    assert "skipped" in story.kinds


def test_what_was_deleted_before_the_group_came_may_be_skipped_if_it_was_said() -> None:
    for announced, kinds in ((1, set()), (0, {"silent gap"})):
        story = told(**{"retention.bytes": 1 << 20})
        story.got(A, 0, [0, 1])
        story.tell("start", "t", 0, 4)
        story.got(A, 4, [4, 5], announced=announced)
        story.commit(A, 6)
        story.final(4, [4, 5])
        assert story.kinds == kinds


def test_what_is_deleted_after_the_group_passed_it_is_no_excuse() -> None:
    story = told(**{"retention.bytes": 1 << 20})
    story.got(A, 0, [0, 1])
    story.got(A, 4, [4, 5], announced=1)
    story.tell("start", "t", 0, 4)
    story.commit(A, 6)
    story.open("replayer-1.1", None)
    story.got("replayer-1.1", 0, range(6))
    story.final(4, [4, 5])
    assert "skipped" in story.kinds


def test_what_only_others_saw_before_memory_was_lost_is_no_skip() -> None:
    story = Story()
    story.sent(4)
    story.open("replayer-1.1", None)
    story.got("replayer-1.1", 0, [0, 1, 2, 3])
    story.tell("loss", "reboot", story.now)
    story.open(A)
    story.got(A, 0, [0, 1])
    story.send(1, first=4)
    story.store(100, first=4)
    story.got(A, 100, [4])
    story.commit(A, 101)
    story.tell("final", "at the end", "t", 0, 0, 101, [[0, [[1, 0], [1, 1]]], [100, [[1, 4]]]])
    assert story.kinds == set()


def test_a_record_given_twice_while_its_reader_lives_is_redelivered() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.got(B, 2, [2, 3])
    story.closed(A, B)
    assert story.kinds == {"redelivered"}


def test_a_record_of_a_member_that_was_killed_may_come_again() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.tell("killed", "consumer-1", story.now)
    story.got(B, 2, [2, 3])
    story.tell("closed", B, True)
    assert story.kinds == set()


def test_a_kill_that_comes_later_excuses_nothing() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.got(B, 2, [2, 3])
    story.now += 10
    story.tell("killed", "consumer-1", story.now + 1)
    story.tell("closed", B, True)
    assert story.kinds == {"redelivered"}


@pytest.mark.parametrize("loss", ["stop", "reboot"])
def test_after_the_end_of_the_whole_bus_records_may_come_again(loss: str) -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.tell("loss", loss, story.now)
    story.got(B, 0, [0, 1, 2])
    story.closed(A, B)
    assert story.kinds == set()


def test_after_a_commit_that_failed_records_may_come_again() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.commit(A, 3, error="NoSpaceError")
    story.got(B, 0, [0, 1, 2])
    story.closed(A, B)
    assert story.kinds == set()


def test_nothing_below_a_confirmed_commit_is_given_again_even_after_a_death() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.commit(A, 3)
    story.tell("killed", "consumer-1", story.now)
    story.now += 1_000_000
    story.got(B, 2, [2, 3])
    story.closed(B)
    assert story.kinds == {"redelivered"}


def test_a_committed_offset_that_goes_back_is_found_by_two_looks_and_by_the_committer() -> None:
    story = told()
    story.sample(4, 6)
    story.sample(3, 6)
    story.closed(A, B)
    assert story.kinds == {"commit back", "skipped"}
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.commit(A, 3)
    story.now += 1
    story.sample(2, 6)
    story.closed(A, B)
    assert story.kinds == {"commit back"}


def test_a_commit_beyond_the_log_end_is_found() -> None:
    story = told()
    story.got(A, 0, range(6))
    story.sample(7, 6)
    story.closed(A, B)
    assert story.kinds == {"commit beyond"}


def test_a_group_that_stays_behind_although_all_is_healed_has_unread_records() -> None:
    story = told()
    story.got(A, 0, [0, 1, 2])
    story.sample(3, 6)
    story.closed(A, B)
    story.final(0, range(6))
    assert story.kinds == {"unread"}


def test_a_reader_without_a_group_goes_back_only_after_a_seek() -> None:
    story = told()
    story.open("replayer-1.1", None)
    story.tell("seek", "replayer-1.1", "t", 0, 2)
    story.got("replayer-1.1", 2, [2, 3])
    story.tell("seek", "replayer-1.1", "t", 0, 0)
    story.got("replayer-1.1", 0, [0, 1])
    assert story.kinds == set()
    story.got("replayer-1.1", 0, [0, 1])
    assert story.kinds == {"went back"}
