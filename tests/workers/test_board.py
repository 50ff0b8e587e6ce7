"""Boards: what workers do, readable by any process of the user, and removed by someone."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.children import Fork
from workers import board as boards
from workers.board import Board
from workers.errors import BoardError
from workers.layout import HISTOGRAM_WORDS, VERDICTS_MAX, State, Word, bucket, bucket_top_ns
from workers.tally import Tally


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(3, 2, {"topic": "orders"})
    yield made
    made.close()
    assert made.path not in boards.paths()


def test_another_mapping_sees_what_a_worker_writes(board: Board) -> None:
    other = Board.open(board.path)
    mine, theirs = board.blocks[1], other.blocks[1]
    mine.born(os.getpid())
    assert theirs[Word.STATE] == State.STARTING
    mine.ready(init_ns=0)
    mine.begin(1, 0, 5, 99, time.monotonic_ns(), 0)
    [task] = theirs.tasks()
    assert (task.slot, task.where, theirs[Word.STATE]) == (1, (0, 5, 99), State.WORKING)
    assert theirs.is_running(task)
    took = mine.end(1, Word.DONE)
    assert not theirs.is_running(task)
    assert (theirs[Word.DONE], theirs[Word.STATE]) == (1, State.WAITING)
    assert theirs.histogram()[bucket(took)] == 1
    assert not other.blocks[0].tasks()
    assert other.description == {"topic": "orders"}
    other.close()  # only the maker removes it


def test_of_tiny_tasks_figures_are_written_in_bulk_and_what_is_in_hand_at_once(
    board: Board,
) -> None:
    other = Board.open(board.path)
    mine, theirs = board.blocks[1], other.blocks[1]
    tally = Tally(mine, 3)
    tally.working()
    for offset in range(20):
        tally.begin(0, offset)
        [task] = theirs.tasks()
        assert (task.where, theirs[Word.LIFE_BEGUN]) == ((3, 0, offset), offset + 1)
        tally.end()
        assert not theirs.tasks()
    assert theirs[Word.STATE] == State.WORKING
    tally.flush()
    tally.flush()
    assert (theirs[Word.DONE], theirs[Word.LIFE_ENDED], tally.begun) == (20, 20, 20)
    assert sum(theirs.histogram()) == 20
    assert theirs[Word.STATE] == State.WAITING
    assert theirs[Word.WORK_NS] >= sum(slow.took_ns for slow in theirs.slowest()) > 0
    other.close()
    assert board.path.exists()


def test_counters_outlive_a_worker_and_its_tasks_do_not(board: Board) -> None:
    block = board.blocks[0]
    block.born(1)
    block.begin(0, 0, 0, 7, time.monotonic_ns(), 0)
    block.end(0, Word.DONE)
    block.begin(0, 0, 0, 8, time.monotonic_ns(), 0)
    block.gone()
    block.born(2)
    assert (block[Word.DONE], block[Word.LIFE_BEGUN], block.tasks()) == (1, 0, [])


def test_a_bucket_holds_durations_up_to_its_top() -> None:
    for ns in [0, 1, 3, 4, 5, 7, 8, 1000, 123_456_789, 1 << 62]:
        index = bucket(ns)
        assert ns <= bucket_top_ns(index)
        assert index == 0 or ns > bucket_top_ns(index - 1)
    assert bucket(1 << 70) == HISTOGRAM_WORDS - 1


def test_the_newest_verdicts_are_kept(board: Board) -> None:
    board.judge((0, 0, 1), 1, 11, 0)
    assert board.verdicts(0, 0, 1) == [(1, 11, 0)]
    assert board.verdicts(0, 1, 1) == []
    for number in range(VERDICTS_MAX):
        board.judge((0, 0, 2), 2, number, 0)
    assert board.verdicts(0, 0, 1) == []
    assert len(board.verdicts(0, 0, 2)) == VERDICTS_MAX


def test_the_board_of_a_process_that_was_killed_is_removed_by_the_next(fork: Fork) -> None:
    def body(report: object) -> None:
        assert callable(report)
        board = Board.create(1, 1, {})
        report(str(board.path))
        while True:
            time.sleep(1)

    child = fork(body)
    path = boards.PLACE / str(child.next())
    boards.sweep()
    assert path.exists()
    assert path in [board.path for board in boards.living()]
    child.kill()
    assert path not in [board.path for board in boards.living()]
    boards.sweep()
    assert not path.exists()


def test_a_forked_child_does_not_keep_its_parent_s_board_alive(board: Board, fork: Fork) -> None:
    def body(report: object) -> None:
        assert callable(report)
        report("born")
        while True:
            time.sleep(1)

    fork(body).next()
    board.close()
    assert board.path not in boards.paths()
    held = Board.create(1, 1, {})
    fork(body).next()
    os.close(held._lock_fd)  # as a kill would
    held._lock_fd = -1
    boards.sweep()
    assert not held.path.exists()


def test_what_is_no_board_is_refused(board: Board) -> None:
    with pytest.raises(BoardError, match="No such file"):
        Board.open(board.path.with_name("workers-none"))
    strange = board.path.with_name(f"workers-{os.geteuid()}-strange")
    strange.write_bytes(b"")
    with pytest.raises(BoardError, match="not whole yet"):
        Board.open(strange)
    assert strange not in [one.path for one in boards.living()]
    strange.write_bytes(bytes(1 << 20))
    with pytest.raises(BoardError, match="no board of workers"):
        Board.open(strange)
    strange.unlink()
    with pytest.raises(BoardError, match="too long"):
        Board.create(1, 1, {"text": "x" * 10_000})


def test_a_board_that_does_not_fit_is_refused_and_leaves_nothing() -> None:
    before = boards.paths()
    with pytest.raises(BoardError, match="cannot make"):
        Board.create(1 << 40, 1, {})
    assert boards.paths() == before
