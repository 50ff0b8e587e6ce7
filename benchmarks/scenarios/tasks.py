"""Tasks in worker processes: an Executor against the two pools of the standard library.

All of them stand at the same time, with as many workers each; they take turns. All use the fork
server. What a task does is nothing, so that what is measured is the way there and back.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing.pool import Pool
from typing import Any

import numpy as np

import workers
from benchmarks.pairs import percentile
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "tasks"
TITLE = "tasks that do nothing, in two worker processes"
WORKERS = 2
ROUND_TRIPS = 300
AT_ONCE = 20_000
ITEMS = 200_000
ARRAY_BYTES = 100_000_000
ONE, MANY, MAP = "submit().result(), p50", "20,000 submits, all results", "map over 200,000 items"
ARRAY = "100 MB array in, its sum out"
OURS, THEIRS, POOL = "bus", "ProcessPoolExecutor", "multiprocessing.Pool"

TARGETS = (
    Target("a task and its result, p50, against the standard one", ratio(ONE, THEIRS), 0.5, True),
    Target("20,000 tasks at once, against the standard one", ratio(MANY, THEIRS), 8),
    Target("map, against multiprocessing.Pool", ratio(MAP, POOL), 1),
    Target("map, against the standard one", ratio(MAP, THEIRS), 10),
    Target("an array of 100 MB, against the standard one", ratio(ARRAY, THEIRS), 5),
)

Map = Callable[[Callable[..., Any], range], Iterable[Any]]


def run(stage: Stage) -> None:
    """All in turns."""
    stage.results.note(
        "tasks: ProcessPoolExecutor's map has chunks of one item unless told otherwise, and is"
        " given a tenth of the items; Pool's and the Executor's are chosen by themselves."
    )
    context = multiprocessing.get_context("forkserver")
    with (
        workers.Executor(WORKERS, bootstrap_servers=stage.path) as ours,
        ProcessPoolExecutor(WORKERS, mp_context=context) as theirs,
        context.Pool(WORKERS) as pool,
    ):
        for _ in stage.in_turns(NAME):
            for name, executor in ((OURS, ours), (THEIRS, theirs)):
                _sample(stage, name, executor)
            _sample_maps(stage, ours, theirs, pool)


def nothing(*_: object) -> None:
    """The task."""


def _sample(stage: Stage, name: str, executor: Executor) -> None:
    executor.submit(nothing).result()
    times = [_seconds(lambda: executor.submit(nothing).result()) for _ in range(ROUND_TRIPS)]
    stage.results.add(ONE, name, "µs", percentile(times, 0.5) * 1e6)
    stage.results.add(MANY, name, "tasks/s", AT_ONCE / _seconds(lambda: _many(executor)))
    array = np.ones(ARRAY_BYTES // 8)
    took = _seconds(lambda: executor.submit(np.sum, array).result())
    stage.results.add(ARRAY, name, "MB/s", ARRAY_BYTES / 1e6 / took)


def _many(executor: Executor) -> None:
    for future in [executor.submit(nothing) for _ in range(AT_ONCE)]:
        future.result()


def _sample_maps(stage: Stage, ours: Executor, theirs: Executor, pool: Pool) -> None:
    maps: tuple[tuple[str, Map, int], ...] = (
        (OURS, ours.map, ITEMS),
        (THEIRS, theirs.map, ITEMS // 10),
        (POOL, pool.map, ITEMS),
    )
    for name, mapping, count in maps:
        took = _seconds(partial(_drain, mapping, range(count)))
        stage.results.add(MAP, name, "items/s", count / took)


def _drain(mapping: Map, items: range) -> None:
    for _ in mapping(nothing, items):
        pass


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
