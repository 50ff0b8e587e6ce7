"""Gigabytes per second of large numpy arrays from one process to another."""

import time
from collections.abc import Callable

import numpy

from benchmarks.flows.arrays import (
    ArrayBusFlow,
    ArrayQueueFlow,
    BareZeroMqFlow,
    PickledZeroMqFlow,
)
from benchmarks.flows.base import Flow
from benchmarks.pairs import OneWay
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "arrays"
TITLE = "numpy arrays of 100 MB: in place, against pickle"
ARRAY_BYTES = 100_000_000
MEASURE = "arrays of 100 MB"
MEMCPY = "memcpy"
#: Arrays in a sample. A slow peer needs half a second for each.
ARRAYS = 8
ARRAYS_QUICK = 4

TARGETS = (
    Target("100 MB arrays against Queue", ratio(MEASURE, "multiprocessing.Queue"), 10),
    Target("100 MB arrays against pyzmq, pickled", ratio(MEASURE, "pyzmq, pickled"), 4),
    Target("100 MB arrays against pyzmq, copy=False", ratio(MEASURE, "pyzmq, copy=False"), 2),
)


def run(stage: Stage) -> None:
    """All flows in turns."""
    stage.results.note(
        "arrays: the receiver reads a byte of every page. The bus's topic is in memory and its "
        "ring warm; its checksums leave values of 64 KiB and more in such topics out."
    )
    count = ARRAYS_QUICK if stage.quick else ARRAYS
    flows: list[Flow] = [
        ArrayBusFlow(ARRAY_BYTES, stage.path),
        ArrayQueueFlow(ARRAY_BYTES),
        PickledZeroMqFlow(ARRAY_BYTES),
        BareZeroMqFlow(ARRAY_BYTES),
    ]
    samplers = {flow.name: _sampler(flow, count) for flow in flows}
    samplers[MEMCPY] = lambda: _memcpy_rate(count)
    for _ in stage.in_turns(MEASURE):
        for subject, sample in samplers.items():
            stage.results.add(MEASURE, subject, "GB/s", sample() * ARRAY_BYTES / 1e9)


def _sampler(flow: Flow, count: int) -> Callable[[], float]:
    pair = OneWay(flow)
    return lambda: pair.rate(count)


def _memcpy_rate(count: int) -> float:
    """Copies of an array into another one whose pages are warm, by one process."""
    source = numpy.ones(ARRAY_BYTES // 8)
    target = source.copy()
    start = time.monotonic()
    for _ in range(count):
        target[:] = source
    return count / (time.monotonic() - start)
