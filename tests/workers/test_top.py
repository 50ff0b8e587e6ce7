"""`python -m workers top`: what is shown, and that it goes on whatever vanishes."""

import io
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.workers import handlers
from tests.workers.pool_rig import Shop
from workers import figures
from workers.backlog import Backlog
from workers.board import Board
from workers.cli import top as top_module
from workers.cli.main import main
from workers.cli.screen import Moment, draw, key_of
from workers.layout import Head, Word

SECOND = 1_000_000_000


def shown(now: Moment, before: Moment | None = None, rows_max: int = 50) -> str:
    """The text of a screen."""
    console = Console(file=io.StringIO(), record=True, width=200)
    console.print(draw(now, before, rows_max))
    return console.export_text()


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Any:
    made = Board.private(3, 1, {"topics": ["orders"], "group": "shop", "handler": "shop:handle"})
    yield made
    made.close()


def at_work(board: Board, number: int, took_ns: tuple[int, ...]) -> None:
    """A worker that has done tasks of those durations, and has one in hand."""
    block = board.blocks[number]
    block.born(1000 + number)
    block.ready(SECOND)
    block.words[Word.RSS_BYTES] = 100 << 20
    for offset, ns in enumerate(took_ns):
        block.begin(0, 0, 3, offset, time.monotonic_ns() - ns, 0)
        block.end(0, Word.DONE)
    block.begin(0, 0, 3, 77, time.monotonic_ns() - 5 * SECOND, 0)


def test_a_screen_shows_workers_tasks_rates_times_memory_and_what_is_left(board: Board) -> None:
    at_work(board, 0, (SECOND, 2 * SECOND, 30 * SECOND))
    at_work(board, 1, ())
    board.add(Head.CRASHES, 2)
    pool = figures.read(board)
    left = (Backlog("orders", 3, 900, 120, 150, 2, 3, 4, 5),)
    before = Moment(10.0, (replace(pool, done=1),))
    text = shown(Moment(12.0, (pool,), {key_of(pool): left}), before)
    assert "1 pools, 2 workers, 200.0 MiB" in text
    assert "shop:handle on orders as shop" in text
    assert "done 1.0/s, failed 0.0/s, retried 0.0/s (now)" in text
    assert "p50 2.1 s p99 30.1 s" in text
    assert "done 3, crashes 2" in text
    [row] = [line.split() for line in text.splitlines() if line.startswith(" orders:3 ")]
    assert row == ["orders:3", "120", "150", "2", "3", "4", "5"]
    [worker] = [line for line in text.splitlines() if " 1000 " in line]
    assert "working" in worker
    assert "orders:3:77 for 5.0 s" in worker
    assert "slowest: orders:3:2 30.0 s, orders:3:1 2.0 s, orders:3:0 1.0 s" in text
    work, init = pool.ratios.work, pool.ratios.init  # type: ignore[union-attr]
    assert (round(work, 2), round(init, 2)) == (round(33 / 35, 2), round(2 / 35, 2))
    assert "work 94%" in text


def test_without_a_look_before_rates_are_those_since_the_start(board: Board) -> None:
    at_work(board, 0, (SECOND,))
    text = shown(Moment(12.0, (figures.read(board),)))
    assert "(since the start)" in text


def test_more_workers_than_there_is_room_for_are_counted(board: Board) -> None:
    for number in range(3):
        at_work(board, number, ())
    assert "and 2 more workers" in shown(Moment(1.0, (figures.read(board),)), rows_max=1)


def test_a_bus_that_does_not_answer_is_said_to_be_so(board: Board) -> None:
    pool = figures.read(board)
    text = shown(Moment(1.0, (pool,), {key_of(pool): "no broker runs in /nowhere"}))
    assert "the bus: no broker runs in /nowhere" in text


def test_nobody_at_work_is_said_in_a_line() -> None:
    assert "no workers of this user are running" in shown(Moment(1.0, ()))


def test_the_slowest_tasks_are_kept_the_slowest_first(board: Board) -> None:
    at_work(board, 0, tuple(n * SECOND for n in (3, 9, 1, 8, 2, 7, 4, 6, 5, 10)))
    found = [round(one.took_s) for one in figures.read(board).slowest]
    assert found == [10, 9, 8, 7, 6, 5, 4, 3]


@pytest.mark.timeout(150)
def test_it_is_shown_once_for_a_script_and_goes_on_when_the_bus_and_the_board_vanish(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.send(10)
    with shop.at_work(handlers.waits_for_a_drain, processes=1) as bench:
        bench.until("begin")
        told = CliRunner().invoke(main, ["top", "--once"])
        assert told.exit_code == 0
        assert "waits_for_a_drain on jobs as jobs" in told.output
        [row] = [line.split() for line in told.output.splitlines() if line.startswith(" jobs:0 ")]
        assert row[:4] == ["jobs:0", "10", "10", "1"]
        board = bench.pool._supervisor.board
        monkeypatch.setattr(top_module, "statistics", lambda: [figures.read(board)])
    monkeypatch.setenv("BUS_DIR", str(Path("/nowhere")))
    told = CliRunner().invoke(main, ["top", "--count", "2", "--interval", "0.05"])
    assert told.exit_code == 0
    assert told.output.count("waits_for_a_drain on jobs") == 2


def test_a_board_that_goes_while_it_is_looked_at_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Board.create(1, 1, {"topics": ["orders"], "group": "shop"})
    opened = Board.open

    def goes(path: Path) -> Board:
        if path == made.path and path.exists():
            os.unlink(path)
        return opened(path)

    monkeypatch.setattr(Board, "open", goes)
    told = CliRunner().invoke(main, ["top", "--once"])
    made.close()
    assert told.exit_code == 0
