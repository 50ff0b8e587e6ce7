"""Pipelines under kills: each output is there once, however often and whenever workers die."""

import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress

import pytest

from tests.workers import stages
from tests.workers.executors import assert_gone
from workers import Pipeline, Retry

#: Whole programs are started, several processes each: a busy machine takes its time.
pytestmark = pytest.mark.timeout(150)

#: However often a worker dies with it.
PATIENT = Retry(crash=255)
KILLS, PAUSE_S = 6, 0.1


class Killer(threading.Thread):
    """Kills a worker of the pipeline that is at work now and then."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        super().__init__(daemon=True)
        self._pipeline = pipeline
        self._draw = random.Random(seed)
        self._over = threading.Event()
        self.pids: list[int] = []

    def run(self) -> None:
        while len(self.pids) < KILLS and not self._over.wait(PAUSE_S):
            if pids := self._at_work():
                victim = self._draw.choice(pids)
                with suppress(ProcessLookupError):  # it was just replaced
                    os.kill(victim, signal.SIGKILL)
                    self.pids.append(victim)

    def _at_work(self) -> list[int]:
        """Those with a record in hand: they have got something done, so the pool goes on."""
        found = [pool.statistics() for pool in self._pipeline._running.pools]
        return [worker.pid for one in found for worker in one.workers if worker.tasks]

    def end(self) -> None:
        self._over.set()
        self.join()


def test_workers_that_are_killed_all_the_time_lose_and_double_nothing() -> None:
    count = 300
    pipeline = Pipeline(buffer=30).source(range(count))
    pipeline.stage(stages.three, processes=2, retry=PATIENT)
    pipeline.stage(stages.up_to_two, retry=PATIENT)
    found: Counter[int] = Counter()
    with pipeline:
        killer = Killer(pipeline, seed=7)
        killer.start()
        for one in pipeline.results():
            found[one] += 1
        killer.end()
        pids = pipeline.pids()
    assert len(killer.pids) == KILLS
    assert_gone([*pids, *killer.pids])
    expected = Counter(out for n in range(3 * count) for out in stages.outputs_of_up_to_two(n))
    assert found == expected
