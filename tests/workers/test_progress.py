"""Runs that have an end: pools until nothing is left, maps; and bars that show how far it is."""

import functools
import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from tests.workers import handlers, tasks
from tests.workers.pool_rig import DONE_WITHIN_S, Shop
from tests.workers.test_cli import SHOP, command, environment
from workers import Executor, Pool, Retry, bar
from workers.bar import Bar
from workers.errors import PoolOptionError, StartMethodError

pytestmark = pytest.mark.timeout(150)


def test_a_pool_runs_until_nothing_is_left_also_not_what_waits_for_its_next_try(
    shop: Shop,
) -> None:
    shop.send(3)
    file = shop.files / "out"
    pool = Pool(
        shop.topic,
        functools.partial(handlers.fails_twice, file=file),
        bootstrap_servers=shop.directory,
        group_id=shop.topic,
        processes=2,
        dead_letter=False,
        retry=Retry(first_delay_s=0.2, jitter=0.0),
    )
    assert pool.run(until_idle=True) == 0
    assert len(handlers.lines(file)) == 9
    found = pool.statistics()
    assert (found.done, found.retried) == (3, 6)
    shop.until_all_done()


def test_waiting_for_a_pool_to_be_idle_ends_with_the_time_or_with_the_work(shop: Shop) -> None:
    with shop.at_work(handlers.waits_for_a_drain) as bench:
        assert bench.pool.wait_idle()  # there is nothing in the topic yet
        shop.send(1)
        bench.until("begin")
        assert not bench.pool.wait_idle(0.3)
        bench.pool.drain()
        shop.send(1)
        assert not bench.pool.wait_idle()  # the pool has ended, and will not do it
    with shop.at_work(handlers.notes) as bench:
        shop.send(50)
        assert bench.pool.wait_idle(DONE_WITHIN_S)
        assert len(bench.numbers("done")) == 51


def test_a_pool_that_forks_cannot_look_when_it_is_idle(shop: Shop) -> None:
    pool = Pool(shop.topic, print, bootstrap_servers=shop.directory, start_method="fork")
    with pytest.raises(StartMethodError, match="use 'forkserver'"):
        pool.run(until_idle=True)


def test_the_command_line_runs_until_idle_and_says_how_far_it_is(
    bus_dir: Path, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    shop.send(20)
    options = ("-t", "jobs", "-n", "1", "-g", "jobs", "--retries", "1", "-q")
    done = subprocess.run(
        command("run", "shop:handle", *options, "--until-idle", "--progress"),
        cwd=tmp_path,
        env=environment(bus_dir),
        capture_output=True,
        text=True,
        timeout=2 * DONE_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "jobs: 20 of 20, " in done.stderr
    assert ", 1 failed" in done.stderr
    assert [dead.value for dead in shop.dead_letters()] == [b"7"]


def drawn(asked: object, *, terminal: bool) -> str:
    """What a bar writes that is at 3 of 10, with a failure."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    shown = Bar("jobs", asked, 10, console)  # type: ignore[arg-type]
    shown.open()
    shown.advance(1, 0)
    shown.update(3, 10, 1)
    shown.close()
    return out.getvalue()


def test_a_bar_shows_done_total_rate_and_failures_on_a_terminal() -> None:
    text = drawn(True, terminal=True)
    assert "3/10" in text
    assert "1 failed" in text
    assert "ETA" in text


def test_without_a_terminal_it_is_silent_unless_asked() -> None:
    assert drawn(True, terminal=False) == drawn(False, terminal=True) == ""
    [line] = drawn("always", terminal=False).splitlines()
    assert line.startswith("jobs: 3 of 10, ")
    assert ", ETA " in line
    assert line.endswith(" s, 1 failed")


def test_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "LINE_PAUSE_S", 0.0)
    assert len(drawn("always", terminal=False).splitlines()) == 3


def test_an_unknown_way_to_show_progress_is_refused() -> None:
    with pytest.raises(PoolOptionError, match="progress must be"):
        Bar("jobs", "often", 1)  # type: ignore[arg-type]


def test_a_map_counts_its_items_as_they_are_done(
    executor: Executor, capfd: pytest.CaptureFixture[str]
) -> None:
    found = list(executor.map(tasks.itself, range(1000), progress="always"))
    assert found == list(range(1000))
    assert "map: 1000 of 1000, " in capfd.readouterr().err
    assert list(executor.map(tasks.itself, iter(range(10)), progress=True)) == found[:10]
    assert capfd.readouterr().err == ""


def test_a_map_that_fails_says_so_in_its_bar(
    executor: Executor, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        list(executor.map(tasks.reciprocal, [1, 0, 2], progress="always", chunksize=1))
    assert "1 failed" in capfd.readouterr().err
