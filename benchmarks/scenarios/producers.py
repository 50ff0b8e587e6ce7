"""Two processes send into one partition (one queue): does the total hold?"""

from benchmarks.flows.base import Flow
from benchmarks.flows.busflow import BusFlow
from benchmarks.flows.faster import FasterFifoFlow
from benchmarks.flows.standard import QueueFlow
from benchmarks.flows.zeromq import ZeroMqFlow
from benchmarks.pairs import OneWay
from benchmarks.stage import Stage
from benchmarks.targets import Target

NAME = "producers"
TITLE = "two producers, one consumer"
RECORD_BYTES = 100
ONE = "one producer 100 B"
TWO = "two producers 100 B"

TARGETS = (
    Target(
        "two producers against one, in total",
        lambda results: results.ratio(TWO, "bus", "bus", ONE),
        0.8,
    ),
)


def run(stage: Stage) -> None:
    """One and two senders through each flow, in turns."""
    stage.results.note("producers: three processes share the cores of this machine.")
    flows: list[Flow] = [
        BusFlow(RECORD_BYTES, stage.path),
        QueueFlow(RECORD_BYTES),
        FasterFifoFlow(RECORD_BYTES),
        ZeroMqFlow(RECORD_BYTES),
    ]
    pairs = [(OneWay(flow), OneWay(flow, senders=2)) for flow in flows]
    counts = [one.count_for(stage.seconds) for one, _ in pairs]
    for _ in stage.in_turns(NAME):
        for (one, two), count in zip(pairs, counts, strict=True):
            stage.results.add(ONE, one.flow.name, "records/s", one.rate(count))
            stage.results.add(TWO, two.flow.name, "records/s", two.rate(count))
