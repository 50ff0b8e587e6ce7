"""Handlers that take several records at once, and what becomes of a batch that fails or dies."""

import functools
from collections import Counter
from pathlib import Path

import pytest

from tests.workers import handlers, stages
from tests.workers.executors import assert_gone
from tests.workers.pool_rig import QUICK, Shop
from workers import Pipeline, Pool, Retry
from workers.errors import PoolOptionError

#: A busy machine takes its time to start so many processes.
pytestmark = pytest.mark.timeout(150)


def test_a_pool_hands_out_lists_and_a_batch_that_fails_is_tried_one_by_one(shop: Shop) -> None:
    shop.send(30)
    options = {"batch": 8, "processes": 1, "dead_letter": True}
    with shop.at_work(handlers.batch_that_fails_on_5, **options) as bench:
        bench.settled(30)
        sizes = [size for size in bench.numbers("batch") if size > 1]
        assert (max(sizes), sum(sizes)) == (8, 30)
        assert Counter(bench.numbers("done")) == Counter(n for n in range(30) if n != 5)
        # once with its neighbours, and by itself from then on, which also counts its failures
        assert Counter(bench.numbers("failed"))[5] == QUICK.failure
    [dead] = shop.dead_letters()
    assert (dead.value, dead.headers["dlq.reason"]) == (b"5", "failure 5 of 5")


def test_a_batch_that_kills_its_worker_comes_one_by_one_and_the_guilty_one_is_named(
    shop: Shop,
) -> None:
    shop.send(16)
    options = {"batch": 16, "processes": 1, "dead_letter": True}
    with shop.at_work(handlers.batch_that_dies_on_5, **options) as bench:
        bench.settled(16)
        assert Counter(bench.numbers("done")) == Counter(n for n in range(16) if n != 5)
    [dead] = shop.dead_letters()
    assert (dead.value, dead.headers["dlq.reason"]) == (b"5", "crash 2 of 2")


def test_a_batch_does_not_wait_for_long(shop: Shop) -> None:
    shop.send(3)
    with shop.at_work(handlers.batch_that_fails_on_5, batch=100, batch_ms=20) as bench:
        bench.settled(3)


def test_options_of_batches_that_cannot_be_are_refused() -> None:
    with pytest.raises(PoolOptionError, match="batch must be at least 1, not 0"):
        Pool("jobs", handlers.works_async, batch=0)
    with pytest.raises(PoolOptionError, match="not an async def"):
        Pool("jobs", handlers.works_async, batch=2)


def test_a_stage_may_take_many_and_give_one() -> None:
    pipeline = Pipeline().source(range(100)).stage(stages.double, processes=2)
    pipeline.stage(stages.sum_and_count, batch=10, retry=Retry(failure=2, first_delay_s=0.001))
    with pipeline:
        found = list(pipeline.results())
        pids = pipeline.pids()
    assert_gone(pids)
    assert sum(total for total, _ in found) == sum(2 * n for n in range(100))
    assert max(count for _, count in found) == 10


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_worker_that_dies_among_the_outputs_of_a_batch_leaves_each_once(
    after: int, tmp_path: Path
) -> None:
    pipeline = (
        Pipeline()
        .source(range(3))
        .stage(
            functools.partial(stages.ten_times_each, place=tmp_path),
            init=functools.partial(stages.first_alone, tmp_path),
            name="each",
            batch=3,
            batch_ms=5000,
            processes=2,
            retry=Retry(crash=9),
            values=stages.DeadlyFormat(tmp_path, after),
        )
    )
    with pipeline:
        found = list(pipeline.results())
        pids = pipeline.pids()
    assert_gone(pids)
    assert (tmp_path / "died").exists()
    assert sorted(found) == [0, 10, 20]
    # none was made again that was there: whose batch is not whole waits for the first one's holder
    assert sorted(int(line[0]) for line in handlers.lines(tmp_path / "written")) == [0, 10, 20]
