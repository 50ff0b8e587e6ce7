"""A pool calls its handler for each record, tries again what fails, and gives up what cannot be."""

import functools
import os
import time
from collections import Counter
from dataclasses import replace

import pytest

import bus
from tests.waiting import eventually
from tests.workers import handlers
from tests.workers.pool_rig import QUICK, Shop
from workers import Pool, Retry, statistics
from workers.errors import (
    CrashLoopError,
    HandlerError,
    NotPicklableError,
    PoolOptionError,
    RetryError,
)

#: A busy machine takes its time to start so many processes.
pytestmark = pytest.mark.timeout(150)


def test_each_record_is_handled_once_and_the_group_has_nothing_left(shop: Shop) -> None:
    shop.send(500)
    with shop.at_work(handlers.notes) as bench:
        bench.settled(500)
        assert sorted(bench.numbers("done")) == list(range(500))
        found = bench.pool.statistics()
        assert (found.done, found.failed, found.crashes) == (500, 0, 0)
        assert found.p50_s is not None
    shop.until_all_done()


def test_records_that_come_while_workers_wait_are_handled(shop: Shop) -> None:
    with shop.at_work(handlers.notes) as bench:
        for round in range(1, 4):
            shop.send(1)
            bench.settled(round)


def test_a_pool_of_several_topics_works_on_all_of_them_and_tells_them_apart(shop: Shop) -> None:
    returns = replace(shop, topic="returns")
    shop.send(40)
    returns.send(60)
    with Pool(
        [shop.topic, "returns"],
        functools.partial(handlers.notes_topic_and_fails_on_7, file=shop.files / "out"),
        processes=2,
        retry=Retry(failure=1),
        group_id="both",
        bootstrap_servers=shop.directory,
    ) as pool:
        eventually(lambda: pool.statistics().done + pool.statistics().dead == 100, 50.0)
        assert pool.topics == (shop.topic, "returns")
        assert pool.dead_letter_topics == ("dlq.jobs.both", "dlq.returns.both")
    said = Counter(line[0] for line in handlers.lines(shop.files / "out"))
    assert said == {shop.topic: 40, "returns": 60}
    [dead] = replace(returns, group="both").dead_letters()
    assert (dead.value, dead.headers["dlq.topic"]) == (b"7", "returns")
    assert len(replace(shop, group="both").dead_letters()) == 1


def test_what_fails_is_tried_again_after_pauses_that_double(shop: Shop) -> None:
    shop.send(1)
    retry = Retry(first_delay_s=0.1, jitter=0.0)
    with shop.at_work(handlers.fails_twice, retry=retry) as bench:
        bench.settled(1)
        lines = handlers.lines(bench.file)
        assert [(line[0], line[2]) for line in lines] == [("1", "0"), ("2", "1"), ("3", "2")]
        times = [float(line[1]) for line in lines]
        assert times[1] - times[0] >= 0.1
        assert times[2] - times[1] >= 0.2
        found = bench.pool.statistics()
        assert (found.done, found.retried, found.dead) == (1, 2, 0)


def test_what_keeps_failing_becomes_a_dead_letter_with_all_that_is_known(shop: Shop) -> None:
    with bus.Producer(shop.directory) as producer:
        producer.send(shop.topic, b"7", b"key", [("colour", b"red")]).get(20.0)
        producer.send(shop.topic, b"8").get(20.0)
    before_ms = time.time_ns() // 1_000_000
    retry = Retry(failure=3, first_delay_s=0.001)
    with shop.at_work(handlers.fails_on_sevens, retry=retry, dead_letter=True) as bench:
        bench.settled(2)
        assert sorted(bench.numbers("try")) == [7, 7, 7, 8]
    [dead] = shop.dead_letters()
    assert (dead.value, dead.key, dead.headers["colour"]) == (b"7", b"key", "red")
    told = {name.removeprefix("dlq."): value for name, value in dead.headers.items()}
    assert (told["topic"], told["partition"], told["offset"]) == (shop.topic, "0", "0")
    assert (told["group"], told["reason"]) == (shop.topic, "failure 3 of 3")
    assert [told[name] for name in ("deliveries", "failures", "crashes")] == ["3", "3", "0"]
    assert told["exception.type"] == "tests.workers.handlers.Unpicklable"
    assert told["exception.text"] == "7 is a seven"
    assert "in fails_on_sevens" in told["exception.traceback"]
    assert int(told["time"]) >= before_ms >= int(told["timestamp"])
    assert int(told["pid"]) != os.getpid()
    shop.until_all_done()


def test_without_dead_letters_the_record_is_given_up_all_the_same(shop: Shop) -> None:
    shop.send(9)
    options = {"dead_letter": False, "processes": 1}
    with shop.at_work(handlers.fails_on_sevens, **options) as bench:
        bench.settled(9)
        assert bench.pool.statistics().dead == 1
        assert bench.pool.dead_letter_topics == ()
    with bus.Admin(shop.directory) as admin:
        assert shop.dead_letter_topic not in admin.list_topics()


def test_exceptions_that_are_not_to_be_tried_again_are_not(shop: Shop) -> None:
    shop.send(1)
    retry = Retry(give_up_on=(ConnectionError,))
    with shop.at_work(handlers.fails_twice, retry=retry, dead_letter=True) as bench:
        bench.settled(1)
    [dead] = shop.dead_letters()
    assert dead.headers["dlq.reason"] == "ConnectionError is not tried again"


def test_a_handler_that_exits_fails_and_its_worker_lives_on(shop: Shop) -> None:
    shop.send(1)
    retry = Retry(retry_on=(BaseException,), failure=3, first_delay_s=0.001)
    with shop.at_work(handlers.exits, retry=retry, processes=1, dead_letter=True) as bench:
        bench.settled(1)
        assert len({line[1] for line in bench.said("try")}) == 1
        assert bench.pool.statistics().crashes == 0
    [dead] = shop.dead_letters()
    assert dead.headers["dlq.exception.type"] == "SystemExit"


def test_running_out_of_memory_has_a_limit_of_its_own(shop: Shop) -> None:
    shop.send(1)
    with shop.at_work(handlers.runs_out_of_memory, dead_letter=True) as bench:
        bench.settled(1)
        assert len(bench.said("try")) == QUICK.oom
    [dead] = shop.dead_letters()
    assert dead.headers["dlq.reason"] == "oom 2 of 2"


def test_each_worker_has_a_state_of_its_own_from_init_to_exit(shop: Shop) -> None:
    shop.send(100)
    file = shop.files / "out"
    options = {"init": functools.partial(handlers.opens, file), "exit": handlers.shuts}
    with shop.at_work(handlers.adds_to, **options) as bench:
        bench.settled(100)
        bench.until("init", 2)
    made = {line[1] for line in bench.said("init")}
    left = {line[1]: int(line[2]) for line in bench.said("exit")}
    assert made == set(left)
    assert sum(left.values()) == 100


def test_an_init_that_fails_is_said_and_costs_no_record(shop: Shop) -> None:
    shop.send(3)
    pool = Pool(
        shop.topic,
        handlers.adds_to,
        init=handlers.cannot_init,
        processes=1,
        group_id=shop.topic,
        bootstrap_servers=shop.directory,
    )
    with pytest.raises(CrashLoopError, match="LookupError: the model is not there"):
        pool.run()
    with shop.at_work(handlers.notes) as bench:
        bench.settled(3)
        assert sorted(bench.numbers("done")) == [0, 1, 2]


def test_a_pool_is_found_by_any_process_of_the_user(shop: Shop) -> None:
    shop.send(1)
    with shop.at_work(handlers.never_ends, processes=1) as bench:
        bench.until("begin")
        [found] = [one for one in statistics() if one.description.get("bus") == str(shop.directory)]
        assert found.description["handler"] == "tests.workers.handlers:never_ends"
        [worker] = found.workers
        [task] = worker.tasks
        assert (worker.state, task.topic, task.partition, task.offset) == (
            "working",
            shop.topic,
            0,
            0,
        )
        eventually(lambda: bench.pool.statistics().workers[0].rss_bytes > 1 << 20)
        bench.pool.stop()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"processes": 0}, PoolOptionError, "processes must be at least 1, not 0"),
        ({"concurrency": 2}, PoolOptionError, "async def; use more processes"),
        ({"timeout_s": 0}, PoolOptionError, "timeout_s must be above 0"),
        ({"max_tasks": 0}, ValueError, "max_tasks must be above 0"),
        ({"init": handlers.cannot_init}, HandlerError, r"handler\(record, state\)"),
        ({"init": 3}, HandlerError, "init must be callable"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_a_reason(
    options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Pool("jobs", one_argument, **options)  # type: ignore[arg-type]


def one_argument(record: object) -> None:
    """A handler without state."""


def test_a_handler_that_cannot_travel_is_refused() -> None:
    with pytest.raises(NotPicklableError, match="top level of a module"):
        Pool("jobs", lambda record: None)
    with pytest.raises(HandlerError, match="must be callable"):
        Pool("jobs", "handle")  # type: ignore[arg-type]


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RetryError, match="failure must be from 1 to 255, not 0"):
        Retry(failure=0)
    with pytest.raises(RetryError, match="does not hold"):
        Retry(first_delay_s=2.0, longest_delay_s=1.0)


def test_workers_leave_the_bus_and_are_not_taken_for_dead(shop: Shop) -> None:
    before = reaped(shop)
    shop.send(5)
    with shop.at_work(handlers.notes) as bench:
        bench.settled(5)
    assert reaped(shop) == before


def reaped(shop: Shop) -> int:
    """How many clients died without a word on this bus."""
    with bus.Admin(shop.directory) as admin:
        return int(admin.status()["counters"]["client_reaped"])
