"""Pools under kills, hangs and drains: nothing is lost, nothing is done twice at a time."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import bus
from tests.waiting import eventually
from tests.workers import handlers
from tests.workers.pool_rig import DONE_WITHIN_S, QUICK, Shop
from tests.workers.rig import is_alive, soon
from workers import Retry
from workers.board import paths

#: Whole programs are started, several processes each: a busy machine takes its time.
pytestmark = pytest.mark.timeout(150)

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12
PAUSE_S = 0.1


def overlaps(lines: list[list[str]], killed: set[int]) -> list[str]:
    """Records that somebody began while another one, who was not killed, had them in hand."""
    holders: dict[str, int] = {}
    wrong = []
    for what, number, pid_text in lines:
        pid = int(pid_text)
        if what == "end":
            holders.pop(number, None)
        elif holders.get(number, pid) not in {pid, *killed}:
            wrong.append(f"{number} is begun by {pid} while {holders[number]} has it")
        else:
            holders[number] = pid
    return wrong


def test_workers_that_are_killed_all_the_time_lose_nothing(shop: Shop) -> None:
    count, draw, killed = 500, random.Random(5), set()
    shop.send(count)
    options = {"processes": 3, "retry": Retry(crash=255), "max_tasks": 200}
    with shop.at_work(handlers.works_a_while, **options) as bench:
        next_s = time.monotonic()
        while len(killed) < KILLS:
            found = bench.pool.statistics()
            pids = [worker.pid for worker in found.workers if worker.tasks]
            if found.done > count - 250:  # there is work as long as there are kills
                shop.send(500, first=count)
                count += 500
            if pids and time.monotonic() >= next_s:
                killed.add(victim := draw.choice(pids))
                with suppress(ProcessLookupError):  # it was just replaced
                    os.kill(victim, signal.SIGKILL)
                next_s = time.monotonic() + PAUSE_S
            time.sleep(0.002)
        shop.until_all_done()
        found = bench.pool.statistics()
        assert found.dead == 0
        # a worker that was killed between its ack and the count of it does not count
        assert count - len(killed) <= found.done <= count
    ends = Counter(bench.numbers("end"))
    assert set(ends) == set(range(count))
    # only what was in hand at a kill may have been worked on to its end twice
    assert sum(ends.values()) - count <= len(killed)
    assert not overlaps(handlers.lines(bench.file), killed)


def test_a_record_that_kills_its_workers_is_given_up_and_its_neighbours_are_not(shop: Shop) -> None:
    shop.send(40)
    with shop.at_work(handlers.kills_on_5, dead_letter=True) as bench:
        bench.settled(40)
        assert Counter(bench.numbers("try"))[5] == QUICK.crash
        assert sorted(bench.numbers("done")) == [n for n in range(40) if n != 5]
        found = bench.pool.statistics()
        assert (found.dead, found.crashes) == (1, QUICK.crash)
    [dead] = shop.dead_letters()
    assert (dead.value, dead.headers["dlq.offset"]) == (b"5", "5")
    assert dead.headers["dlq.reason"] == "crash 2 of 2"
    assert dead.headers["dlq.exception.type"] == "workers.errors.WorkerDied"
    assert "was ended by SIGKILL" in dead.headers["dlq.exception.text"]


def test_a_record_that_kills_an_async_worker_is_found_among_those_in_hand(shop: Shop) -> None:
    shop.send(20)
    options = {"concurrency": 8, "processes": 1}
    with shop.at_work(handlers.kills_on_5_async, **options, dead_letter=True) as bench:
        bench.settled(20)
        assert set(bench.numbers("done")) == {n for n in range(20) if n != 5}
    [dead] = shop.dead_letters()
    assert (dead.value, dead.headers["dlq.reason"]) == (b"5", "crash 2 of 2")


def test_a_handler_that_takes_too_long_is_interrupted(shop: Shop) -> None:
    shop.send(10)
    options = {"timeout_s": 0.3, "processes": 1}
    with shop.at_work(handlers.hangs_on_5, **options, dead_letter=True) as bench:
        bench.settled(10)
        found = bench.pool.statistics()
        assert (found.timeouts, found.timeout_kills, found.crashes) == (2, 0, 0)
    [dead] = shop.dead_letters()
    assert dead.headers["dlq.reason"] == "timeout 2 of 2"
    assert dead.headers["dlq.exception.type"] == "workers.errors.TaskTimeout"


def test_an_async_handler_that_takes_too_long_is_cancelled(shop: Shop) -> None:
    shop.send(10)
    options = {"timeout_s": 0.3, "processes": 1, "concurrency": 4}
    with shop.at_work(handlers.hangs_on_5_async, **options, dead_letter=True) as bench:
        bench.settled(10)
        assert bench.pool.statistics().timeouts == 2
    [dead] = shop.dead_letters()
    assert dead.headers["dlq.reason"] == "timeout 2 of 2"


def test_a_handler_that_cannot_be_interrupted_costs_its_process_and_counts_as_late(
    shop: Shop,
) -> None:
    shop.send(10)
    retry = Retry(timeout=1, crash=1)
    options = {"timeout_s": 0.2, "retry": retry}
    with shop.at_work(handlers.is_stuck_on_5, **options, dead_letter=True) as bench:
        bench.settled(10)
        found = bench.pool.statistics()
        assert found.timeout_kills == 1
        assert Counter(bench.numbers("try")) == Counter(range(10))
        assert bench.said("ignored")
    [dead] = shop.dead_letters()
    assert dead.headers["dlq.reason"] == "timeout 1 of 1"


@pytest.mark.parametrize("kind", ["takes_its_time", "takes_its_time_async"])
def test_a_handler_may_extend_its_time(kind: str, shop: Shop) -> None:
    shop.send(1)
    options = {"timeout_s": 0.3, "processes": 1}
    with shop.at_work(getattr(handlers, kind), **options) as bench:
        bench.settled(1)
        assert bench.pool.statistics().timeouts == 0


def test_a_drain_finishes_what_is_in_hand_and_gives_the_rest_back(shop: Shop) -> None:
    shop.send(20)
    with shop.at_work(handlers.waits_for_a_drain) as bench:
        bench.until("begin", 2)
        assert bench.pool.drain() is True
        assert len(bench.said("end")) == 2
    with shop.at_work(handlers.notes, "rest") as bench:
        bench.settled(18)
        assert len(bench.numbers("done")) == 18


@pytest.mark.parametrize("kind", ["never_ends", "never_ends_async"])
def test_what_is_interrupted_by_the_end_is_not_counted_against_the_record(
    kind: str, shop: Shop
) -> None:
    shop.send(1)
    for _ in range(3):  # more often than any limit
        (shop.files / "out").unlink(missing_ok=True)
        options = {"processes": 1, "retry": Retry(failure=1, crash=1, timeout=1, oom=1)}
        with shop.at_work(getattr(handlers, kind), **options, dead_letter=True) as bench:
            bench.until("begin")
            assert bench.pool.drain(0.05) is False
            assert bench.pool.statistics().interrupted == 1
    assert shop.dead_letters() == []
    with shop.at_work(handlers.notes, "done") as bench:
        bench.settled(1)


RUNNING = """
import functools, json, pathlib, sys
import workers
from tests.workers import handlers
if __name__ == "__main__":
    name, directory, topic, file, drain_s = sys.argv[1:]
    handler = functools.partial(getattr(handlers, name), file=pathlib.Path(file))
    pool = workers.Pool(topic, handler, processes=2, group_id=topic,
                        bootstrap_servers=directory, drain_timeout_s=float(drain_s))
    sys.exit(pool.run())
"""


class Program:
    """A program whose main thread runs a pool; it is gone when the test ends."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.file = shop.files / "out"

    def start(self, handler: str, drain_s: float) -> None:
        shop = self._shop
        script = shop.files / "running.py"
        script.write_text(RUNNING)
        command = [sys.executable, "-W", "error", str(script), handler]
        command += [str(shop.directory), shop.topic, str(self.file), str(drain_s)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[:1]])}
        self.process = subprocess.Popen(command, env=environment)

    def until(self, word: str, count: int) -> list[list[str]]:
        def found() -> list[list[str]]:
            said = [line for line in handlers.lines(self.file) if line[0] == word]
            return said if len(said) >= count else []

        return eventually(found, DONE_WITHIN_S, f"{count} times {word}")


@pytest.fixture
def program(shop: Shop) -> Iterator[Program]:
    made = Program(shop)
    yield made
    made.process.kill()
    made.process.wait()


def test_a_signal_drains_the_program_and_its_exit_code_is_0(shop: Shop, program: Program) -> None:
    shop.send(5)
    program.start("waits_for_a_drain", 30.0)
    program.until("begin", 2)
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(DONE_WITHIN_S) == 0
    assert len(program.until("end", 2)) == 2


def test_a_second_signal_interrupts_and_the_exit_code_tells(shop: Shop, program: Program) -> None:
    shop.send(5)
    program.start("never_ends", 600.0)
    program.until("begin", 2)
    program.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        program.process.wait(0.3)
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(DONE_WITHIN_S) == 1


def test_work_goes_on_elsewhere_when_a_whole_pool_is_killed(shop: Shop, program: Program) -> None:
    shop.send(200)
    program.start("works_a_while", 0.2)
    pids = {int(line[2]) for line in program.until("end", 20)}
    [board] = [path for path in paths() if f"-{program.process.pid}-" in path.name]
    program.process.kill()
    program.process.wait()
    soon(lambda: not any(map(is_alive, pids)), "the end of the orphans")
    with shop.at_work(handlers.works_a_while, retry=QUICK) as bench:
        assert not board.exists(), "the board of the dead pool is still there"
        shop.until_all_done()
        assert bench.pool.statistics().dead == 0
    assert set(bench.numbers("end")) == set(range(200))


def test_a_worker_that_dies_after_its_dead_letter_leaves_one_letter(shop: Shop) -> None:
    shop.send(8)
    with shop.at_work(handlers.fails_on_sevens_and_dies, processes=1, dead_letter=True) as bench:
        bench.settled(8)
        assert Path(f"{bench.file}.died").exists()
        assert bench.pool.statistics().crashes == 1
    assert [dead.value for dead in shop.dead_letters()] == [b"7"]


def test_a_dead_letter_of_a_record_that_leaves_no_room_has_a_short_traceback(shop: Shop) -> None:
    with bus.Admin(shop.directory) as admin:
        configs = {"max.message.bytes": 2000}
        admin.create_topics([bus.NewTopic(shop.dead_letter_topic, topic_configs=configs)])
    shop.send(8)
    with shop.at_work(handlers.fails_on_sevens_deeply, dead_letter=True) as bench:
        bench.settled(8)
    [dead] = shop.dead_letters()
    assert len(dead.headers["dlq.exception.traceback"]) == 400
    assert "is a seven" in dead.headers["dlq.exception.traceback"]


def test_json_of_statistics_can_be_written(shop: Shop) -> None:
    with shop.at_work(handlers.notes, processes=1) as bench:
        assert json.loads(json.dumps(bench.pool.statistics().as_dict()))["done"] == 0
