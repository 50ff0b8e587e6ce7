"""A worker's post: whom an interrupt reaches, and what the supervisor hears."""

import multiprocessing
import os
import time
from collections.abc import Iterator

import pytest

from workers.board import Board
from workers.errors import TaskInterrupted, TaskTimeout
from workers.post import READY, SOFT, TOLD, WORN, Post, Seed

SECOND = 1_000_000_000


@pytest.fixture
def post() -> Iterator[Post]:
    board = Board.create(1, 1, {})
    reader, writer = multiprocessing.Pipe(duplex=False)
    made = Post(Seed(0, os.getpid(), 0, board.path, 1.0), board, writer)
    made.heard = reader  # type: ignore[attr-defined]
    yield made
    reader.close()
    writer.close()
    board.close()


def begin(post: Post, allowed_ns: int) -> None:
    now_ns = time.monotonic_ns()
    post.block.begin(0, 0, 0, 0, now_ns - SECOND, now_ns + allowed_ns if allowed_ns else 0)


def test_a_handler_whose_time_is_over_is_interrupted_once(post: Post) -> None:
    begin(post, -1)
    post.is_interruptible = True
    with pytest.raises(TaskTimeout):
        post.on_soft(SOFT, None)
    post.on_soft(SOFT, None)  # what cleans up is left in peace


@pytest.mark.parametrize("allowed_ns", [0, 60 * SECOND])
def test_an_interrupt_that_was_meant_for_the_task_before_is_ignored(
    post: Post, allowed_ns: int
) -> None:
    begin(post, allowed_ns)
    post.is_interruptible = True
    post.on_soft(SOFT, None)
    assert post.is_interruptible


def test_while_draining_any_handler_is_interrupted_and_none_outside_of_one(post: Post) -> None:
    begin(post, 0)
    post.on_term(15, None)
    post.on_soft(SOFT, None)
    with post.interruptible(), pytest.raises(TaskInterrupted):
        post.on_soft(SOFT, None)


def test_a_drain_wakes_what_waits_in_the_main_thread(post: Post) -> None:
    woken: list[bool] = []
    post.on_drain = lambda: woken.append(post.draining)
    assert not post.wait_draining(0.0)
    post.on_term(15, None)
    assert woken == [True]
    assert post.wait_draining(0.0)


def test_the_supervisor_hears_what_is_said_and_a_supervisor_that_is_gone_is_no_error(
    post: Post,
) -> None:
    post.ready()
    post.worn("3 tasks")
    post.tell(b"data")
    reader = post.heard  # type: ignore[attr-defined]
    assert [reader.recv_bytes() for _ in range(3)] == [READY, WORN + b"3 tasks", TOLD + b"data"]
    reader.close()
    post.tell(b"nobody hears this")
