"""A pipeline at work: its bus, topics, pools and feeders, and the thread that watches over them."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from bus.errors import BusError
from workers.errors import PipelineError, PipelineStalledError
from workers.pipeline.edges import Edges, is_fed
from workers.pipeline.feeding import Feeder
from workers.pipeline.graph import Graph
from workers.pipeline.measures import PipelineMeasures, Rates, measured
from workers.pipeline.results import Intake, Results
from workers.pipeline.stage_pool import StagePool
from workers.pipeline.watch import Watch

logger = logging.getLogger(__name__)

#: Between two looks of the watch.
TICK_S: Final = 0.02
#: Between two looks for trouble.
CHECK_S: Final = 0.1
#: A pipeline that is held up says so in the log every so often.
WARN_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a pipeline is to run; see Pipeline."""

    address: "str | os.PathLike[str] | None"
    name: str
    ordered: bool
    buffer: int
    buffer_bytes: int
    errors: Literal["raise", "keep"]
    durable_acks: bool
    stall_timeout_s: float | None
    pool_options: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """Started when it is made; `close` ends it. `failure`: why it ended before its time."""

    def __init__(self, graph: Graph, settings: Settings, *, wants_results: bool) -> None:
        graph.check(ordered=settings.ordered)
        self._graph = graph
        self._settings = settings
        self.failure: BaseException | None = None
        self._over = threading.Event()
        self._stopping = threading.Event()
        self._draining = False
        self._rates = Rates()
        self._last: PipelineMeasures | None = None
        self._started: list[StagePool] = []
        self._raises = settings.errors == "raise"
        self._done_tick: int | None = None
        self.cut_short = False
        with ExitStack() as undo:
            self._begin(undo, wants_results and bool(graph.ends()))
            self._undo = undo.pop_all()

    def _begin(self, undo: ExitStack, wants_results: bool) -> None:
        graph, settings = self._graph, self._settings
        self.edges = edges = Edges(
            settings.address,
            settings.name,
            graph,
            wants_results=wants_results,
            ordered=settings.ordered,
        )
        undo.callback(edges.close)
        edges.make(settings.buffer, settings.buffer_bytes)
        self._intake = Intake(graph, edges) if wants_results else None
        if self._intake is not None:
            undo.callback(self._intake.close)
        positions = self._intake.positions if self._intake else None
        self.watch = Watch(graph, edges, positions)
        undo.callback(self.watch.close)
        self._check_order()
        self.pools = [self._pool(stage.name) for stage in graph.stages]
        self.feeders = self._make_feeders(undo)
        undo.callback(self._stop_pools)
        for pool in self.pools:
            pool.start()
            self._started.append(pool)
        self._thread = threading.Thread(target=self._keep_watch, name="pipeline", daemon=True)
        undo.callback(self._end_watch)
        self._thread.start()
        for feeder in self.feeders:
            feeder.start()

    def _check_order(self) -> None:
        if self._settings.ordered:
            [topic] = self.edges.source_topics()
            count = len(self.watch.end_of([topic]))
            if count != 1:
                raise PipelineError(
                    f"ordered=True needs a source with one partition; topic {topic!r} has {count}"
                )

    def _pool(self, name: str) -> StagePool:
        stage = next(one for one in self._graph.stages if one.name == name)
        roots = frozenset(self.edges.source_topics()) if self._settings.ordered else None
        return StagePool(
            self.edges,
            stage,
            roots=roots,
            durable=self._settings.durable_acks,
            defaults=self._settings.pool_options,
        )

    def _make_feeders(self, undo: ExitStack) -> list[Feeder]:
        feeders = []
        for source in self._graph.sources:
            topic = self.edges.topic_of(source)
            if is_fed(source) and source.items is not None and topic is not None:
                feeder = Feeder(
                    self.edges.address,
                    topic,
                    source.items,
                    source.values,
                    self._settings.durable_acks,
                )
                undo.callback(feeder.close)
                feeders.append(feeder)
        return feeders

    # ------------------------------------------------------------------ watching

    def _keep_watch(self) -> None:
        progress = _Progress(self)
        next_check_s = 0.0
        self._rates.note(self._counts())
        try:
            while not self._stopping.wait(TICK_S):
                self.watch.look()
                self._notice_end()
                if time.monotonic() >= next_check_s and not self._over.is_set():
                    next_check_s = time.monotonic() + CHECK_S
                    self._check(progress)
        except BusError as error:
            self._fail(error)

    def _notice_end(self) -> None:
        if self._done_tick is None and self._all_is_fed():
            self._done_tick = self.watch.tick + 1
        if self._done_tick is not None and self.watch.passed >= self._done_tick:
            self._check_parts()
            self._over.set()

    def _all_is_fed(self) -> bool:
        follows = any(one.topic is not None and one.follow for one in self._graph.sources)
        return not (follows and not self._draining) and all(one.is_done for one in self.feeders)

    def _check(self, progress: "_Progress") -> None:
        self._check_parts()
        self._rates.note(self._counts())
        stalled = progress.stalled(self._settings.stall_timeout_s)
        if stalled is not None:
            self._fail(stalled)

    def _check_parts(self) -> None:
        for feeder in self.feeders:
            if feeder.error is not None:
                self._fail(feeder.error)
        for pool in self.pools:
            trouble = pool.trouble()
            if trouble is None and self._raises and self.watch.given_up(pool.stage):
                trouble = pool.first_letter()
            if trouble is not None:
                self._fail(trouble)

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self._over.set()

    def held_up(self) -> tuple[str, str]:
        """The last part of the pipeline that waits for room behind it, and why; ("", "")."""
        for pool in reversed(self.pools):
            if pool.observer.held_up:
                return pool.stage, pool.observer.held_up
        reasons = [feeder.held_up for feeder in self.feeders if feeder.held_up]
        return "", reasons[0] if reasons else ""

    # ------------------------------------------------------------------ the program's side

    def is_over(self) -> bool:
        """True if nothing more will come. Raises what has gone wrong."""
        if self._over.is_set() and self.failure is not None:
            raise self.failure
        return self._over.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until nothing more will come."""
        return self._over.wait(timeout_s)

    def results(self) -> Results:
        """Iterates over what the last stages give."""
        if self._intake is None:
            raise PipelineError("no stage of this pipeline has results: all write to a sink")
        return Results(
            self._intake, self.is_over, self.watch.root if self._settings.ordered else None
        )

    def _counts(self) -> dict[str, int]:
        return {pool.stage: pool.statistics().done for pool in self.pools}

    def measures(self) -> PipelineMeasures:
        """What it does and has done; after its end, what it had done."""
        if self._last is not None:
            return self._last
        topics = {node.name: self.edges.topic_of(node) for node in self._graph.nodes.values()}
        return measured(
            self._settings.name,
            sum(feeder.fed for feeder in self.feeders),
            self.pools,
            self._rates,
            self.watch.edges(),
            {topic: name for name, topic in topics.items() if topic is not None},
        )

    def drain(self) -> None:
        """Takes no more from the sources. May be called from a signal handler."""
        self._draining = True
        for feeder in self.feeders:
            feeder.stop()
        if not self.edges.is_private:
            self._over.set()  # the rest is done by the next run

    @property
    def is_draining(self) -> bool:
        """True once drain() was called."""
        return self._draining

    def interrupt(self) -> None:
        """Ends the wait and the handlers: what is under way is cut short. Does not wait."""
        self.cut_short = self.cut_short or not self._over.is_set()
        self._over.set()
        for pool in self.pools:
            pool.interrupt()

    def close(self, *, drain: bool) -> None:
        """Ends everything. With `drain`, handlers finish what they have in hand."""
        self._stopping.set()
        for feeder in self.feeders:
            feeder.stop()
        if drain:
            for pool in self._started:  # the next one goes on: this one may wait for room there
                finished = _ended(pool, StagePool.drain)
                self.cut_short = self.cut_short or not finished
        with suppress(BusError):  # the bus may be what has ended it
            self._last = self.measures()
        self._undo.close()

    def _end_watch(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _stop_pools(self) -> None:
        """All at the same time."""
        with ThreadPoolExecutor(len(self.pools)) as threads:
            finished = list(threads.map(lambda pool: _ended(pool, StagePool.stop), self._started))
        self.cut_short = self.cut_short or not all(finished)


def _ended(pool: StagePool, end: Callable[[StagePool], bool]) -> bool:
    if pool.failure is not None:
        return False  # it has ended by itself
    return end(pool)


class _Progress:
    """Whether anything moves."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._last: tuple[int, ...] = ()
        self._since_s = time.monotonic()
        self._warned_s = time.monotonic()

    def stalled(self, timeout_s: float | None) -> PipelineStalledError | None:
        """An error if nothing was done for so long although there is work."""
        run, now_s = self._run, time.monotonic()
        edges = run.watch.edges()
        moved = tuple(edge.done for edge in edges)
        works = all(pool.observer.has_begun for pool in run.pools)
        if moved != self._last or not works or not any(edge.lag for edge in edges):
            self._last, self._since_s = moved, now_s
        idle_s = now_s - self._since_s
        stage, reason = run.held_up()
        if timeout_s is not None and idle_s > timeout_s:
            text = reason or "no handler has ended"
            return PipelineStalledError(
                f"nothing was done anywhere in the pipeline for {idle_s:.1f} s: {text}", stage=stage
            )
        if reason and idle_s > WARN_S and now_s - self._warned_s > WARN_S:
            self._warned_s = now_s
            logger.warning("the pipeline is held up for %.0f s: %s", idle_s, reason)
        return None
