"""Three stages in a row, one process each: a Pipeline against processes and queues.

Both pass items on as they are, so what is measured is the way through. A rate is of what lies
between the first result and the last one: the start of the processes does not count.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import workers
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "pipelines"
TITLE = "three stages in a row that do nothing, one process each"
ITEMS = 20_000
FRAMES = 500
FRAME_BYTES = 1_000_000
#: Of the queues between the standard processes, and of the topics between the stages.
BUFFER = 1000
FRAMES_BUFFER = 64
SMALL, LARGE = "20,000 small items", "500 frames of 1 MB"
OURS, THEIRS = "bus", "multiprocessing.Queue"

TARGETS = (
    Target("small items through three stages, against queues", ratio(SMALL, THEIRS), 1),
    Target("frames of 1 MB through three stages, against queues", ratio(LARGE, THEIRS), 2),
)

Through = Callable[[list[Any], int], Iterable[Any]]


def run(stage: Stage) -> None:
    """All in turns."""
    stage.results.note(
        "pipelines: the bus keeps each item until its output is in the next topic, and"
        " acknowledges it then; a queue forgets it when it is taken."
    )
    for _ in stage.in_turns(NAME):
        frame = np.ones(FRAME_BYTES, dtype=np.uint8)
        for name, through in ((OURS, _through_stages), (THEIRS, _through_queues)):
            small = _rate(through, list(range(ITEMS)), BUFFER)
            stage.results.add(SMALL, name, "items/s", small)
            large = _rate(through, [frame] * FRAMES, FRAMES_BUFFER)
            stage.results.add(LARGE, name, "MB/s", large * FRAME_BYTES / 1e6)


def same(value: Any) -> Any:
    """What a stage does."""
    return value


def _rate(through: Through, items: list[Any], buffer: int) -> float:
    """Results per second behind the first one."""
    count, began_s = 0, 0.0
    for _ in through(items, buffer):
        began_s = began_s or time.perf_counter()
        count += 1
    assert count == len(items)
    return (count - 1) / (time.perf_counter() - began_s)


def _through_stages(items: list[Any], buffer: int) -> Iterable[Any]:
    pipeline = workers.Pipeline(buffer=buffer).source(items)
    for name in ("first", "second", "third"):
        pipeline.stage(same, name=name)
    return pipeline


def _pass_on(source: Any, target: Any) -> None:
    while (value := source.get()) is not None:
        target.put(value)
    target.put(None)


def _feed(source: Any, count: int, item: Any) -> None:
    for number in range(count):
        source.put(number if item is None else item)
    source.put(None)


def _through_queues(items: list[Any], buffer: int) -> Iterable[Any]:
    context = multiprocessing.get_context("forkserver")
    queues = [context.Queue(buffer) for _ in range(4)]
    item = None if isinstance(items[0], int) else items[0]
    processes = [
        context.Process(target=_pass_on, args=queues[number : number + 2]) for number in range(3)
    ]
    processes.append(context.Process(target=_feed, args=(queues[0], len(items), item)))
    for process in processes:
        process.start()
    while (value := queues[-1].get()) is not None:
        yield value
    for process in processes:
        process.join()
