"""Records per second from one process to another, one call per record, at four sizes."""

import mmap
import time
from collections.abc import Callable

from benchmarks.flows.base import Flow
from benchmarks.flows.busflow import BusFlow
from benchmarks.flows.faster import FasterFifoFlow
from benchmarks.flows.iceoryx import IceoryxFlow
from benchmarks.flows.standard import PipeFlow, QueueFlow
from benchmarks.flows.zeromq import ZeroMqFlow
from benchmarks.pairs import OneWay
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "throughput"
TITLE = "one process sends, another reads; one call per record"
SIZES = {"100 B": 100, "1 KiB": 1 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}
MEMCPY = "memcpy"
RING_BYTES = 64 << 20

TARGETS = (
    Target("100 B against pyzmq", ratio("throughput 100 B", "pyzmq"), 3.5),
    Target("100 B against Queue", ratio("throughput 100 B", "multiprocessing.Queue"), 20),
    Target("1 MiB against pyzmq", ratio("throughput 1 MiB", "pyzmq"), 3),
    Target("1 MiB against memcpy", ratio("throughput 1 MiB", MEMCPY), 0.5),
)


def run(stage: Stage) -> None:
    """All flows in turns, size by size."""
    stage.results.note(
        "throughput: values of 64 KiB and more are read in place (a byte of every page) where the "
        "transport can; pyzmq sends and receives them with copy=False; faster-fifo pickles."
    )
    for label, size in SIZES.items():
        measure = f"throughput {label}"
        samplers = _samplers(stage, size)
        for _ in stage.in_turns(measure):
            for subject, sample in samplers.items():
                stage.results.add(measure, subject, "records/s", sample())


def _samplers(stage: Stage, size: int) -> dict[str, Callable[[], float]]:
    flows: list[Flow] = [
        BusFlow(size, stage.path),
        QueueFlow(size),
        PipeFlow(size),
        FasterFifoFlow(size),
        ZeroMqFlow(size),
        IceoryxFlow(size),
    ]
    samplers = {flow.name: _sampler(flow, stage.seconds) for flow in flows}
    if size == SIZES["1 MiB"]:
        samplers[MEMCPY] = lambda: _memcpy_rate(size, stage.seconds)
    return samplers


def _sampler(flow: Flow, seconds: float) -> Callable[[], float]:
    pair = OneWay(flow)
    count = pair.count_for(seconds)
    return lambda: pair.rate(count)


def _memcpy_rate(size: int, seconds: float) -> float:
    """Copies of one record into a mapped ring whose pages are warm, by one process."""
    payload = bytes(size)
    with mmap.mmap(-1, RING_BYTES) as ring:
        places = range(0, RING_BYTES, size)
        for at in places:
            ring[at : at + size] = payload
        copies, start = 0, time.monotonic()
        while time.monotonic() - start < seconds:
            for at in places:
                ring[at : at + size] = payload
            copies += len(places)
        return copies / (time.monotonic() - start)
