"""A record of 64 bytes there and one back: blocking, and spinning where the transport can."""

from collections.abc import Callable

from benchmarks.flows.base import Flow
from benchmarks.flows.busflow import BusFlow
from benchmarks.flows.faster import FasterFifoFlow
from benchmarks.flows.iceoryx import IceoryxEventFlow, IceoryxFlow
from benchmarks.flows.standard import PipeFlow, QueueFlow
from benchmarks.flows.zeromq import ZeroMqFlow
from benchmarks.pairs import RoundTrip, percentile
from benchmarks.stage import Stage
from benchmarks.targets import Target, ratio

NAME = "roundtrip"
TITLE = "64 B there and back; blocking: the reader sleeps, spinning: it does not"
RECORD_BYTES = 64
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
WARM = 500

TARGETS = (
    Target("blocking, p50, against Pipe", ratio("blocking p50", "multiprocessing.Pipe"), 1, True),
    Target("spinning, p50, against iceoryx2", ratio("spinning p50", "iceoryx2"), 0.5, True),
)

FlowMaker = Callable[[], Flow]


def run(stage: Stage) -> None:
    """All transports in turns, both ways of waiting."""
    stage.results.note("roundtrip: a blocking iceoryx2 is woken through its event service.")
    count = 2000 if stage.quick else 10_000
    for waiting, makers in (("blocking", _blocking(stage)), ("spinning", _spinning(stage))):
        for _ in stage.in_turns(f"round trip, {waiting}"):
            for maker in makers:
                _sample(stage, waiting, maker, count)


def _sample(stage: Stage, waiting: str, maker: FlowMaker, count: int) -> None:
    there, back = maker(), maker()
    times = RoundTrip(there, back).times_ns(count, WARM)
    for label, share in PERCENTILES.items():
        microseconds = percentile(times, share) / 1000
        stage.results.add(f"{waiting} {label}", there.name, "µs", microseconds)


def _blocking(stage: Stage) -> list[FlowMaker]:
    return [
        lambda: BusFlow(RECORD_BYTES, stage.path),
        lambda: QueueFlow(RECORD_BYTES),
        lambda: PipeFlow(RECORD_BYTES),
        lambda: FasterFifoFlow(RECORD_BYTES),
        lambda: ZeroMqFlow(RECORD_BYTES),
        lambda: IceoryxEventFlow(RECORD_BYTES),
    ]


def _spinning(stage: Stage) -> list[FlowMaker]:
    return [
        lambda: BusFlow(RECORD_BYTES, stage.path, spin=True),
        lambda: IceoryxFlow(RECORD_BYTES),
    ]
