"""A pipeline: stages of worker processes, connected by topics of the bus.

    pipeline = workers.Pipeline().source(paths).stage(load, processes=2).stage(resize)
    for picture in pipeline:
        …

Each stage is a pool of its own, so a worker that dies costs its stage one attempt at one record.
What a stage gives is in the log before its record is done, and is there once, also if the worker
dies in between. A stage that is slow holds up those before it, by the limits of the topics between
them, and so memory stays bounded.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Literal, Self, TypedDict, Unpack

from workers.errors import PipelineError
from workers.limits import Limit
from workers.pipeline.drawing import drawn
from workers.pipeline.edges import RESULTS
from workers.pipeline.graph import Graph, Source, Stage, name_for
from workers.pipeline.measures import PipelineMeasures
from workers.pipeline.outlet import Output as Output
from workers.pipeline.picture import pictured
from workers.pipeline.results import Results
from workers.pipeline.running import Run, Settings
from workers.pipeline.values import Format, Values, chosen
from workers.pool import EXIT_DONE, EXIT_WORK_CUT_SHORT, address_of
from workers.retry import Retry
from workers.start_methods import FORKSERVER
from workers.supervisor import DRAIN_TIMEOUT_S

BUFFER: Final = 1000
BUFFER_BYTES: Final = 128 << 20
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_AUTO: Final = Values()


class StageOptions(TypedDict, total=False):
    """Options of a stage that its pool takes as they are; see Pool."""

    retry: Retry
    timeout_s: float | None
    max_tasks: int | None
    max_rss_bytes: int | None
    max_age_s: float | None
    concurrency: int
    batch: int | None
    batch_ms: float
    limits: Sequence[Limit]
    init: Callable[[], Any] | None
    exit: Callable[..., Any] | None


class Pipeline:
    """Stages of worker processes, connected by topics.

    bootstrap_servers: directory of a bus for the topics; None: a private one in memory, gone with
        the pipeline.
    name: of the pipeline on its bus, where it goes on if it is run again; needed with a bus.
    ordered: results come in the order of the source's items, and not as they are ready.
    buffer, buffer_bytes: what may wait for a stage, in its topic, before those who send it wait.
    errors: "raise" ends the pipeline with StageFailedError once a record is given up; "keep" leaves
        it among the dead letters, and goes on. None: "raise" on a private bus, else "keep".
    acks: 1: an output survives the death of every process; "all": it is on disk before the record
        that it came from is done, which survives power loss as well.
    stall_timeout_s: PipelineStalledError if nothing is done anywhere for so long; None waits.
    drain_timeout_s, start_method, preload, log_level: as of Pool, for all stages.

    Raises PipelineError for what does not fit together.
    """

    def __init__(
        self,
        bootstrap_servers: "str | os.PathLike[str] | None" = None,
        *,
        name: str | None = None,
        ordered: bool = False,
        buffer: int = BUFFER,
        buffer_bytes: int = BUFFER_BYTES,
        errors: Literal["raise", "keep"] | None = None,
        acks: Literal[1, "all"] = 1,
        stall_timeout_s: float | None = None,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        start_method: str = FORKSERVER,
        preload: tuple[str, ...] = (),
        log_level: int | None = None,
    ) -> None:
        if bootstrap_servers is not None and name is None:
            raise PipelineError(
                "a pipeline on a bus needs name=: it goes on under it when it is run again"
            )
        if buffer < 1 or buffer_bytes < 1:
            raise PipelineError("buffer and buffer_bytes must be at least 1")
        if errors not in (None, "raise", "keep") or acks not in (1, "all"):
            raise PipelineError('errors is "raise" or "keep", acks is 1 or "all"')
        self._graph = Graph()
        self._settings = Settings(
            address=None if bootstrap_servers is None else address_of(bootstrap_servers),
            name=name or "pipeline",
            ordered=ordered,
            buffer=buffer,
            buffer_bytes=buffer_bytes,
            errors=errors or ("raise" if bootstrap_servers is None else "keep"),
            durable_acks=acks == "all",
            stall_timeout_s=stall_timeout_s,
            pool_options={
                "processes": 1,
                "drain_timeout_s": drain_timeout_s,
                "start_method": start_method,
                "preload": ("workers.pipeline.stage_work", *preload),
                "log_level": log_level,
            },
        )
        self._run: Run | None = None

    # ------------------------------------------------------------------ building

    def source(
        self,
        items: Iterable[Any] | None = None,
        *,
        topic: str | None = None,
        name: str = "source",
        values: Format | str | None = _AUTO,
        follow: bool = True,
    ) -> Self:
        """Where records begin: the items of an iterable, or an existing topic of the bus.

        values: their format; that of a topic is plain bytes unless it is given. follow: go on with
        what comes to the topic later; False: end with what it has when the pipeline starts.
        """
        if (items is None) == (topic is None) or isinstance(items, str | bytes):
            raise PipelineError("source() takes an iterable of items, or topic='its name'")
        if topic is not None and self._settings.address is None:
            raise PipelineError(f"topic {topic!r} is on no bus: give Pipeline(bootstrap_servers)")
        format = chosen(None if topic is not None and values is _AUTO else values)
        self._graph.add(Source(name=name, values=format, items=items, topic=topic, follow=follow))
        return self

    def stage(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        after: str | Iterable[str] | None = None,
        processes: int = 1,
        values: Format | str | None = _AUTO,
        **options: Unpack[StageOptions],
    ) -> Self:
        """Calls function(value) in worker processes, and passes on what it returns or yields.

        None is nothing, a generator's values are passed on one by one, all else is one value;
        `Output` gives it a key or headers. An async def takes up to `concurrency` at once. With
        `batch`, the function is called with a list of up to so many values.

        name: of the stage; the function's unless it is given. after: names of those whose outputs
        it takes; the last one that was added unless it is given. values: the format of its outputs.
        """
        title = name or name_for(function)
        if title == RESULTS:
            raise PipelineError(f"no stage may be named {RESULTS!r}; give it another name=")
        self._graph.add(
            Stage(
                name=title,
                function=function,
                after=self._graph.before(after),
                values=chosen(values),
                options={"processes": processes, **options},
            )
        )
        return self

    def sink(
        self, topic: str, *, after: str | None = None, values: Format | str | None = None
    ) -> Self:
        """Outputs of the last stage, or of `after`, go to this topic of the bus, as plain bytes.

        values: another format for them.
        """
        if self._settings.address is None:
            raise PipelineError(f"topic {topic!r} is on no bus: give Pipeline(bootstrap_servers)")
        [name] = self._graph.before(after)
        self._graph.send_to(name, topic, chosen(values))
        return self

    # ------------------------------------------------------------------ running

    def start(self) -> Self:
        """Starts everything; the results are to be taken with results(). Raises PipelineError."""
        self._begin(wants_results=True)
        return self

    def _begin(self, *, wants_results: bool) -> Run:
        if self._run is not None:
            raise PipelineError("the pipeline runs already, or has run: make another one")
        self._run = Run(self._graph, self._settings, wants_results=wants_results)
        return self._run

    def results(self) -> Results:
        """Iterates over what the last stages give, until all that the sources have came through.

        Arrays lie in the log and are read-only. On a bus, results that were taken are not given
        again by the next run. Raises StageFailedError, PipelineStalledError, and what the source's
        iterable raises.
        """
        return self._running.results()

    def __iter__(self) -> Iterator[Any]:
        """Runs the pipeline from beginning to end: `for result in pipeline`."""
        with self:
            yield from self.results()

    def run(self) -> int:
        """Works until all has come through, SIGTERM or SIGINT; nobody takes results.

        What the last stages give goes to their sinks, or nowhere. The first signal drains: sources
        end, and what is under way on a private bus is finished; the second one interrupts. Returns
        the exit code of the program: 0, or 1 if work was cut short. Raises as results() does.
        """
        run = self._begin(wants_results=False)
        finished = False
        with self._signals():
            try:
                while not run.wait(1.0):
                    continue
                finished = run.failure is None
            finally:
                run.close(drain=finished)
        run.is_over()
        return EXIT_WORK_CUT_SHORT if run.cut_short else EXIT_DONE

    def drain(self) -> None:
        """Takes no more from the sources. What is under way on a private bus is finished."""
        self._running.drain()

    def close(self) -> None:
        """Ends everything now; handlers are interrupted. Idempotent."""
        if self._run is not None:
            self._run.close(drain=False)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ looking

    def statistics(self) -> PipelineMeasures:
        """What each stage does and has done, and what waits between them."""
        return self._running.measures()

    def draw(self) -> str:
        """The stages as a tree of text; with rates, workers and lag once it runs."""
        return drawn(self._graph, self._run.measures() if self._run else None)

    def to_svg(self) -> str:
        """The stages as a picture: an SVG document; with the same figures."""
        return pictured(self._graph, self._run.measures() if self._run else None)

    def __str__(self) -> str:
        return self.draw()

    def pids(self) -> list[int]:
        """The worker processes that are there now."""
        return [pid for pool in self._running.pools for pid in pool.pids()]

    @property
    def _running(self) -> Run:
        if self._run is None:
            raise PipelineError("the pipeline does not run: use 'with pipeline:', or start()")
        return self._run

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        run = self._running
        if run.is_draining:
            run.interrupt()
        else:
            run.drain()
