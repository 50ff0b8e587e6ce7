"""What a pipeline does and has done: `pipeline.statistics()`."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from workers.pipeline.stage_pool import StagePool
from workers.pipeline.watch import Edge

#: Rates are of so long.
WINDOW_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class StageMeasures:
    """One stage. `lag`: records of its inputs that it has not done; `rate_per_s` of late.

    `held_up`: why it waits for room behind it, "" if it does not. The others as in Statistics.
    """

    name: str
    workers: int
    working: int
    done: int
    retried: int
    dead: int
    crashes: int
    lag: int
    rate_per_s: float
    p50_s: float | None
    p99_s: float | None
    held_up: str


@dataclass(frozen=True, slots=True)
class EdgeMeasures:
    """A topic between two parts: `end` records were sent, the reader has not done `lag` of them."""

    topic: str
    source: str
    reader: str
    end: int
    lag: int


@dataclass(frozen=True, slots=True)
class PipelineMeasures:
    """A pipeline at work. `fed`: items that were sent by this run."""

    name: str
    fed: int
    stages: tuple[StageMeasures, ...]
    edges: tuple[EdgeMeasures, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def stage(self, name: str) -> StageMeasures:
        """One stage. Raises KeyError."""
        for one in self.stages:
            if one.name == name:
                return one
        raise KeyError(name)


class Rates:
    """How often something was done per second, from counts that are noted now and then."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, Mapping[str, int]]] = deque()

    def note(self, counts: Mapping[str, int], now_s: float | None = None) -> None:
        """The counts as they are now."""
        now_s = time.monotonic() if now_s is None else now_s
        self._noted.append((now_s, dict(counts)))
        while len(self._noted) > 2 and now_s - self._noted[1][0] >= WINDOW_S:
            self._noted.popleft()

    def of(self, name: str) -> float:
        """Per second, over the last few seconds."""
        if len(self._noted) < 2:
            return 0.0
        (began_s, before), (now_s, now) = self._noted[0], self._noted[-1]
        return (now[name] - before[name]) / max(now_s - began_s, 1e-9)


def measured(
    name: str,
    fed: int,
    pools: Iterable[StagePool],
    rates: Rates,
    edges: Iterable[Edge],
    writers: Mapping[str, str],
) -> PipelineMeasures:
    """All figures; `writers`: topic -> the part that writes it, or is it."""
    known = tuple(edges)
    return PipelineMeasures(
        name,
        fed,
        tuple(_stage(pool, rates, known) for pool in pools),
        tuple(
            EdgeMeasures(edge.topic, writers[edge.topic], edge.reader, edge.end, edge.lag)
            for edge in known
        ),
    )


def _stage(pool: StagePool, rates: Rates, edges: Iterable[Edge]) -> StageMeasures:
    found = pool.statistics()
    return StageMeasures(
        name=pool.stage,
        workers=len(found.workers),
        working=sum(bool(worker.tasks) for worker in found.workers),
        done=found.done,
        retried=found.retried,
        dead=found.dead,
        crashes=found.crashes + found.out_of_memory,
        lag=sum(edge.lag for edge in edges if edge.reader == pool.stage),
        rate_per_s=rates.of(pool.stage),
        p50_s=found.p50_s,
        p99_s=found.p99_s,
        held_up=pool.observer.held_up,
    )
