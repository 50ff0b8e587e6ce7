"""Pools with limits: no more than was allowed, by all workers of all pools, and nobody waits."""

import time
from collections.abc import Iterator

import pytest

import bus
from tests.waiting import eventually
from tests.workers import handlers, limited
from tests.workers.pool_rig import Shop
from workers import Concurrency, Pool, Rate
from workers.errors import LimitError, NotPicklableError
from workers.limit_file import paths

pytestmark = pytest.mark.timeout(150)
MS = 1_000_000


@pytest.fixture(autouse=True)
def no_file_is_left() -> Iterator[None]:
    yield
    eventually(lambda: not paths(), what="all files of limits are gone")


def test_a_rate_holds_for_all_workers_together_and_counts_no_attempt(shop: Shop) -> None:
    shop.send(40)
    handler = limited.spans_at_its_first_attempt
    with shop.at_work(handler, processes=3, limits=[Rate(40, burst=3)]) as bench:
        bench.settled(40)
        found = limited.begins(bench.file)
        # a worker may be late with what it was allowed to begin, never early
        assert found[-1] - found[0] >= (40 - 3 - 1) * 25 * MS
        said = bench.pool.statistics()
        assert (said.done, said.failed) == (40, 0)
        assert 0 < said.deferred < 40 * 6, "what waits is not tried over and over"


def test_a_rate_is_reached_and_not_only_kept(shop: Shop) -> None:
    shop.send(100)
    limits = [Rate(100, burst=10)]
    with shop.at_work(limited.spans, processes=3, limits=limits) as bench:
        bench.settled(1)
        since_s = time.monotonic()
        bench.settled(100)
        assert time.monotonic() - since_s < 10.0, "0.9 s would do on an idle machine"


def test_no_more_run_at_once_than_are_allowed_whatever_kills_workers(shop: Shop) -> None:
    shop.send(40)
    options = {"processes": 4, "limits": [Concurrency(2)]}
    with shop.at_work(limited.is_killed_now_and_then, **options) as bench:
        bench.settled(40)
        assert limited.at_once(bench.file) == 2
        assert bench.pool.statistics().crashes == 8


def test_each_key_has_its_own_limit_and_holds_up_no_other(shop: Shop) -> None:
    shop.send(36)
    limits = [Concurrency(1, key=limited.tens)]
    with shop.at_work(limited.spans, processes=4, limits=limits) as bench:
        bench.settled(36)
        assert limited.at_once(bench.file, keys=3) == 1
        assert limited.at_once(bench.file) > 1


def test_a_key_that_has_to_wait_holds_up_no_worker(shop: Shop) -> None:
    with bus.Producer(shop.directory) as producer:
        producer.send_many(shop.topic, [b"%d" % n for n in range(0, 200, 2)]).get(20.0)
        producer.send_many(shop.topic, [b"%d" % n for n in range(1, 40, 2)]).get(20.0)
    limits = [Rate(1, per_s=3600, key=limited.only_even)]
    with shop.at_work(handlers.notes, processes=1, limits=limits) as bench:
        bench.settled(21)
        done = bench.numbers("done")
        assert sorted(done) == sorted([0, *range(1, 40, 2)])


def test_the_records_of_an_async_worker_are_limited_like_those_of_others(shop: Shop) -> None:
    shop.send(40)
    options = {"processes": 2, "concurrency": 16, "limits": [Concurrency(3)]}
    with shop.at_work(limited.spans_async, **options) as bench:
        bench.settled(40)
        assert limited.at_once(bench.file) == 3


def test_pools_share_a_limit_by_its_name_and_one_of_another_size_is_refused(shop: Shop) -> None:
    other = Shop(shop.directory, "others", shop.files)
    shop.send(20)
    other.send(20)
    options = {"processes": 2, "limits": [Concurrency(1, name="the same")]}
    with (
        shop.at_work(limited.spans, **options) as one,
        other.at_work(limited.spans, **options) as two,
    ):
        one.settled(20)
        two.settled(20)
        assert limited.at_once(one.file) == 1
        third = Pool(
            shop.topic,
            print,
            bootstrap_servers=shop.directory,
            limits=[Concurrency(2, name="the same")],
        )
        with pytest.raises(LimitError, match="'the same'"):
            third.start()
        third._supervisor.board.close()


def test_a_key_that_raises_is_a_failure_of_its_record(shop: Shop) -> None:
    shop.send(9)
    limits = [Concurrency(5, key=limited.has_no_key)]
    with shop.at_work(handlers.notes, limits=limits, dead_letter=True) as bench:
        bench.settled(9)
    [dead] = shop.dead_letters()
    assert (dead.value, dead.headers["dlq.exception.text"]) == (b"7", "seven has no host")


def test_a_key_that_cannot_travel_is_told_by_name() -> None:
    with pytest.raises(NotPicklableError, match="lambda"):
        Pool("jobs", print, limits=[Rate(1, key=lambda record: record.key)])
