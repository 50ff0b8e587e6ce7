"""workers.testing.Runner: a worker in the test's own process, with a clock that stands still."""

import asyncio
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import workers
from tests.workers.handlers import passes, passes_async
from workers import Retry, errors
from workers.testing import Outcome, Record, Runner, crash

ROOT = Path(__file__).resolve().parents[2]
QUICK = Retry(first_delay_s=1.0, jitter=0.0)


def fails_on_7(record: Any) -> None:
    if record.value == b"7":
        raise ValueError("no sevens")


def refuses_twice(record: Any) -> None:
    if workers.current().attempt < 3:
        raise ConnectionError("not yet")


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def test_what_is_sent_is_handled_when_it_is_run_and_not_before() -> None:
    seen: list[Any] = []
    with Runner(lambda record: seen.append(record.value)) as runner:
        first = runner.send(b"1", b"key", [("colour", b"red")])
        assert (seen, runner.done) == ([], [])
        runner.run_until_idle()
        assert (seen, runner.done) == ([b"1"], [first])
        runner.send(b"2")
        runner.run_until_idle()
        assert values(runner.done) == [b"1", b"2"]
        assert [one.outcome for one in runner.attempts] == [Outcome.DONE] * 2
        found = runner.statistics()
    assert (found.done, found.failed, found.workers[0].state) == (2, 0, "waiting")


def test_a_record_has_what_one_of_the_bus_has() -> None:
    with Runner(fails_on_7, topic="orders") as runner:
        runner.advance(1.0)
        record = runner.send(b"value", b"key", [("colour", b"red")], partition=3)
        assert (record.topic, record.partition, record.offset) == ("orders", 3, 0)
        assert record.timestamp == record.timestamp_ns // 1_000_000 == 1_767_225_601_000
        assert bytes(record.view()) == record.value == b"value"
        sizes = (record.serialized_key_size, record.serialized_value_size)
        assert (*sizes, record.serialized_header_size) == (3, 5, 9)
        assert runner.send(partition=3).offset == 1
        with pytest.raises(TypeError, match="a value must be bytes or None, not str: encode it"):
            runner.send("text")  # type: ignore[arg-type]


def test_a_failure_waits_for_the_end_of_its_pause() -> None:
    with Runner(refuses_twice, retry=QUICK) as runner:
        record = runner.send(b"1")
        runner.run_until_idle()
        assert runner.waiting == {record: 1.0}
        runner.advance(0.999)
        assert len(runner.attempts) == 1
        runner.advance(0.001)
        assert runner.waiting == {record: 2.0}
        runner.advance(2.0)
        assert runner.done == [record]
        assert [one.started_s for one in runner.attempts_at(record)] == [0.0, 1.0, 3.0]
        decisions = [one.decision for one in runner.attempts]
        assert decisions == ["again in 1.000 s", "again in 2.000 s", ""]


def test_what_is_given_up_becomes_a_dead_letter_with_all_that_is_known() -> None:
    retry = Retry(failure=2)
    with Runner(fails_on_7, retry=retry, topic="orders", group_id="shop") as runner:
        for value in (b"6", b"7", b"8"):
            runner.send(value, b"key", [("colour", b"red")])
        runner.run_until_settled()
        assert (values(runner.done), values(runner.dead)) == ([b"6", b"8"], [b"7"])
        [letter] = runner.dead_letters
        assert (letter.record.value, letter.record.key) == (b"7", b"key")
        assert letter.record.topic == runner.dead_letter_topic == "dlq.orders.shop"
        assert letter.record.headers[0] == ("colour", b"red")
        assert (letter.source.topic, letter.source.offset) == ("orders", 1)
        assert letter.told["reason"] == "failure 2 of 2"
        assert letter.told["exception.text"] == "no sevens"
        assert "in fails_on_7" in letter.told["exception.traceback"]


def test_without_dead_letters_it_is_given_up_all_the_same() -> None:
    with Runner(fails_on_7, retry=Retry(failure=1), dead_letter=False) as runner:
        runner.send(b"7")
        runner.run_until_settled()
        assert (values(runner.dead), runner.dead_letters) == ([b"7"], [])


def test_the_same_seed_gives_the_same_pauses() -> None:
    def pauses(seed: int) -> list[float]:
        with Runner(fails_on_7, seed=seed) as runner:
            runner.send(b"7")
            runner.run_until_settled()
            return [one.started_s for one in runner.attempts]

    assert pauses(1) == pauses(1)
    assert pauses(1) != pauses(2)


def test_a_sleep_takes_the_clock_s_time_and_none_of_the_test_s() -> None:
    def sleeps(record: Any) -> None:
        before_s = time.time()
        passes(3600)
        assert time.time() - before_s == 3600

    began_s = time.monotonic()
    with Runner(sleeps) as runner:
        runner.send(b"1")
        runner.run_until_idle()
        assert (len(runner.done), runner.clock.now_s) == (1, 3600.0)
        assert runner.attempts[0].took_s == 3600.0
    assert time.monotonic() - began_s < 30.0


def test_other_threads_keep_the_real_time() -> None:
    real: list[float] = []

    def handler(record: Any) -> None:
        thread = threading.Thread(target=lambda: real.append(time.time()))
        thread.start()
        thread.join()

    before_s = time.time()
    with Runner(handler) as runner:
        runner.send(b"1")
        runner.run_until_idle()
    assert before_s <= real[0] <= time.time()


def test_a_handler_whose_time_is_over_is_interrupted_at_its_deadline() -> None:
    def hangs(record: Any) -> None:
        passes(100)

    with Runner(hangs, timeout_s=10, retry=Retry(timeout=1)) as runner:
        runner.send(b"1")
        runner.run_until_settled()
        [attempt] = runner.attempts
        assert (attempt.outcome, attempt.took_s) == (Outcome.TIMEOUT, 10.0)
        assert isinstance(attempt.error, errors.TaskTimeout)
        assert runner.dead_letters[0].told["timeouts"] == "1"


def test_a_handler_that_extends_its_time_is_not() -> None:
    def extends(record: Any) -> None:
        workers.current().extend(200)
        passes(100)
        assert workers.current().remaining_s == 100

    with Runner(extends, timeout_s=10) as runner:
        runner.send(b"1")
        runner.run_until_settled()
        assert len(runner.done) == 1


def test_a_handler_that_takes_no_notice_is_killed_two_seconds_later() -> None:
    def is_stuck(record: Any) -> None:
        while workers.current().attempt == 1:
            try:
                passes(100)
            except errors.TaskTimeout:
                continue

    with Runner(is_stuck, timeout_s=10) as runner:
        runner.send(b"1")
        runner.run_until_settled()
        outcomes = [(one.outcome, one.took_s, one.decision) for one in runner.attempts]
        assert outcomes == [(Outcome.DIED, 12.0, "timeout"), (Outcome.DONE, 0.0, "")]
        found = runner.statistics()
        assert (runner.deaths, found.timeout_kills, found.crashes) == (1, 1, 0)


@pytest.mark.parametrize(
    ("options", "reason", "text"),
    [
        ({}, "crash 2 of 2", "was ended by SIGKILL"),
        ({"exit_code": 3}, "crash 2 of 2", "exited with code 3"),
        ({"out_of_memory": True}, "oom 2 of 2", "was killed by the kernel: out of memory"),
    ],
)
def test_a_worker_that_dies_takes_one_record_down_and_counts_for_no_other(
    options: dict[str, Any], reason: str, text: str
) -> None:
    def dies_on_7(record: Any) -> None:
        if record.value == b"7":
            crash(**options)

    with Runner(dies_on_7) as runner:
        for value in (b"6", b"7", b"8"):
            runner.send(value)
        runner.run_until_settled()
        assert (values(runner.done), runner.deaths) == ([b"6", b"8"], 2)
        [letter] = runner.dead_letters
        assert letter.told["reason"] == reason
        assert text in letter.told["exception.text"]


def test_init_and_exit_are_called_in_each_life_of_the_worker() -> None:
    said: list[str] = []
    numbers = itertools.count(1)

    def init() -> str:
        said.append("init")
        return f"state {next(numbers)}"

    def handler(record: Any, state: str) -> None:
        said.append(state)
        if state == "state 1":
            crash()

    with Runner(handler, init=init, exit=lambda state: said.append(f"exit {state}")) as runner:
        runner.send(b"1")
        runner.run_until_settled()
    assert said == ["init", "state 1", "init", "state 2", "exit state 2"]


def test_async_handlers_run_at_once_in_the_clock_s_time() -> None:
    async def waits(record: Any) -> None:
        await passes_async(60)

    with Runner(waits, concurrency=3) as runner:
        for number in range(6):
            runner.send(b"%d" % number)
        runner.run_until_idle()
        assert (len(runner.done), runner.clock.now_s) == (6, 120.0)


def test_an_async_handler_whose_time_is_over_is_cancelled_and_killed_if_it_goes_on() -> None:
    async def waits(record: Any) -> None:
        if record.value == b"hang":
            await passes_async(100)
        while record.value == b"stick" and workers.current().attempt == 1:
            try:
                await passes_async(100)
            except asyncio.CancelledError:
                continue

    with Runner(waits, timeout_s=10, retry=Retry(timeout=2)) as runner:
        hung, stuck = runner.send(b"hang"), runner.send(b"stick")
        runner.run_until_settled()
        assert [one.outcome for one in runner.attempts_at(hung)] == [Outcome.TIMEOUT] * 2
        outcomes = [(one.outcome, one.took_s) for one in runner.attempts_at(stuck)]
        assert outcomes == [(Outcome.DIED, 12.0), (Outcome.DONE, 0.0)]


def test_the_neighbours_of_an_async_crash_are_worked_on_alone_afterwards() -> None:
    async def dies_on_7(record: Any) -> None:
        await passes_async(1 if record.value == b"7" else 5)
        if record.value == b"7":
            crash()

    with Runner(dies_on_7, concurrency=3) as runner:
        six, seven, eight = (runner.send(value) for value in (b"6", b"7", b"8"))
        runner.run_until_settled()
        assert (runner.done, runner.dead) == ([six, eight], [seven])
        alone = [one.started_s for one in runner.attempts_at(eight)]
        assert alone == [0.0, 7.0]  # one second and six's own five, and seven's last one


def test_what_a_pool_refuses_is_refused() -> None:
    with pytest.raises(errors.PoolOptionError, match="async def"):
        Runner(fails_on_7, concurrency=2)
    with pytest.raises(errors.HandlerError, match="cannot be called"):
        Runner(lambda: None)


def test_the_clock_of_the_program_is_as_it_was() -> None:
    before = (time.time, time.sleep, time.monotonic_ns)
    with Runner(fails_on_7) as runner:
        assert (time.time, time.sleep, time.monotonic_ns) == before
        runner.send(b"7")
        runner.run_until_settled()
    assert (time.time, time.sleep, time.monotonic_ns) == before


def test_a_runner_takes_less_than_ten_milliseconds() -> None:
    def one_test() -> float:
        began_s = time.perf_counter()
        with Runner(fails_on_7) as runner:
            runner.send(b"7")
            runner.run_until_settled()
        return time.perf_counter() - began_s

    assert min(one_test() for _ in range(20)) < 0.010


def test_the_example_of_the_page_runs_under_pytest(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "seeing.md").read_text(encoding="utf-8")
    [example] = re.findall(
        r"^```python\n(from workers import.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    (tmp_path / "test_shop.py").write_text(example, encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
