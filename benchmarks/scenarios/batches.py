"""Records per second when a hundred are sent with one call and all that are there are taken."""

from benchmarks.flows.base import BatchFlow
from benchmarks.flows.busflow import BusFlow
from benchmarks.flows.faster import FasterFifoFlow, FasterFifoRawFlow
from benchmarks.pairs import OneWay
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "batches"
TITLE = "send_many of 100 and poll, against put_many and get_many"
RECORD_BYTES = 100
BATCH = 100
MEASURE = "batches 100 B"

TARGETS = (Target("100 B in batches against faster-fifo", ratio(MEASURE, "faster-fifo"), 8),)


def run(stage: Stage) -> None:
    """The transports that know batches, in turns."""
    flows: list[BatchFlow] = [
        BusFlow(RECORD_BYTES, stage.path),
        FasterFifoFlow(RECORD_BYTES),
        FasterFifoRawFlow(RECORD_BYTES),
    ]
    pairs = [OneWay(flow, batch=BATCH) for flow in flows]
    counts = [pair.count_for(stage.seconds) for pair in pairs]
    for _ in stage.in_turns(MEASURE):
        for pair, count in zip(pairs, counts, strict=True):
            stage.results.add(MEASURE, pair.flow.name, "records/s", pair.rate(count))
