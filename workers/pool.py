"""A pool: worker processes that call a handler for each record of a topic.

    def handle(record): …

    if __name__ == "__main__":
        workers.Pool("orders", handle, processes=4).run()

The workers are members of one share group: any of them takes any record, one that is slow or
poisonous holds up nobody else, and a record is done when its handler has returned, not before.
A worker that dies gives its records back within milliseconds. What cannot be done goes to a topic
of dead letters.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Literal, Self

from bus.errors import BusConfigurationError
from workers import dead_letters, figures, start_methods
from workers.errors import CrashLoopError, PoolOptionError
from workers.flight_keeper import FlightKeeper
from workers.flight_ring import RING_BYTES
from workers.gate import Gate
from workers.handler import Handler
from workers.idle import IdleWatch
from workers.life import life_of
from workers.limits import Limit
from workers.logs import LogFormat
from workers.observer import Observer
from workers.order import Batching, Mode, Order
from workers.progress import Asked
from workers.recycling import Recycling
from workers.retry import Retry
from workers.start_methods import FORKSERVER
from workers.supervisor import DRAIN_TIMEOUT_S, Supervisor

#: Exit codes of `run`.
EXIT_DONE: Final = 0
EXIT_WORK_CUT_SHORT: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


#: How long a batch is waited for behind its first record.
BATCH_MS: Final = 100.0


class Pool:
    """Supervised workers on one topic. A context manager: started by `with`, drained at its end.

    topic: what the workers read, or several; created if the broker does that.
    handler: called with each record; at the top level of a module. An `async def` is called for up
        to `concurrency` records at once in each worker.
    processes: how many workers; None is one for each CPU that this process may use.
    group_id: pools with the same one share the records of the topic; None is the handler's name.
    mode: "queue", or "keyed": records of one key are worked on one after the other, in the order of
        the log, also if they are tried again; those of other keys do not wait for them.
    bootstrap_servers: directory of the bus; None is $BUS_DIR or the user's own bus.
    retry: limits and pauses, see `Retry`.
    dead_letter: records that are given up go to the topic `dlq.TOPIC.GROUP`; else they are logged.
    timeout_s: time for one record. Then TaskTimeout is raised in the handler; if that does not
        help, its process is killed, and no other.
    max_tasks, max_rss_bytes, max_age_s: a worker is replaced after so many tasks (or up to a tenth
        fewer), above so much memory, or so long; the new one is ready before the old one leaves.
    concurrency: records that one worker has in hand at once; for an async handler.
    init: called once in each worker; what it returns is passed to the handler, handler(record,
        state). exit: called with it at the worker's end.
    start_method: "forkserver", "spawn", or "fork" (only with run(), and without threads).
    preload: modules that the fork server imports once for all workers.
    drain_timeout_s: how long a drain waits for tasks before it interrupts them.
    log_level: workers log to stderr from this level on; None leaves their logging as it is.
    log_format: "text", or "json" for an object a line; both say which task a line is of.
    observer: told of workers that are ready, and of those that end.
    batch, batch_ms: the handler is called with a list of up to so many records; it is not waited
        for longer than batch_ms after the first one. If it raises, each is tried by itself.
    limits: how many tasks may begin in a time (`Rate`), and run at once (`Concurrency`), in all
        processes of this machine that use the same limits; a record that may not run yet waits.
    flight_record: note each attempt at each record in the topic `flight.GROUP`, for workers.flight
        and `python -m workers why`: "memory" keeps the last 16 MiB of notes (some 300,000
        attempts), "durable" a week's on disk, 1 GiB at most. True is "memory".

    Raises BusConfigurationError (or one of its kinds) and NotPicklableError for what cannot be.
    """

    _gate: Gate | None = None

    def __init__(
        self,
        topic: str | Sequence[str],
        handler: Callable[..., Any],
        *,
        processes: int | None = None,
        group_id: str | None = None,
        mode: Mode = "queue",
        bootstrap_servers: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        dead_letter: bool = True,
        timeout_s: float | None = None,
        max_tasks: int | None = None,
        max_rss_bytes: int | None = None,
        max_age_s: float | None = None,
        concurrency: int = 1,
        init: Callable[[], Any] | None = None,
        exit: Callable[..., Any] | None = None,
        start_method: str = FORKSERVER,
        preload: tuple[str, ...] = (),
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        log_level: int | None = None,
        log_format: LogFormat = "text",
        observer: Observer | None = None,
        limits: Sequence[Limit] = (),
        batch: int | None = None,
        batch_ms: float = BATCH_MS,
        flight_record: bool | Literal["memory", "durable"] = False,
    ) -> None:
        self._order = Order(
            handler=(called := Handler(handler, init, exit)),
            address=address_of(bootstrap_servers),
            topics=(topic,) if isinstance(topic, str) else tuple(topic),
            group=group_id or called.name.replace(":", "."),
            mode=mode,
            retry=retry or Retry(),
            dead_letter=dead_letter,
            timeout_s=timeout_s,
            concurrency=concurrency,
            log_level=log_level,
            log_format=log_format,
            limits=tuple(limits),
            batching=_batching(batch, batch_ms),
            flight=bool(flight_record),
        )
        self._flight = FlightKeeper.of(flight_record, self._order, observer)
        recycling = Recycling(max_tasks=max_tasks, max_rss_bytes=max_rss_bytes, max_age_s=max_age_s)
        self._supervisor = self._staffed(
            processes, start_method, preload, recycling, drain_timeout_s, self._flight or observer
        )

    def _staffed(
        self,
        processes: int | None,
        start_method: str,
        preload: tuple[str, ...],
        recycling: Recycling,
        drain_timeout_s: float,
        observer: Observer | None,
    ) -> Supervisor:
        """Who keeps the workers; none is started yet. Raises PoolOptionError."""
        self._start_method = start_method
        if processes is not None and processes < 1:
            raise PoolOptionError(f"processes must be at least 1, not {processes!r}")
        return Supervisor(
            life_of(self._order),
            processes or len(os.sched_getaffinity(0)),
            description=self._description(),
            tasks_per_worker=self._order.tasks_at_once,
            start_method=start_method,
            preload=("workers.life", *preload),
            recycling=recycling,
            drain_timeout_s=drain_timeout_s,
            observer=observer,
            at_end=self._leave,
            flight_bytes=RING_BYTES if self._order.flight else 0,
        )

    def _description(self) -> dict[str, Any]:
        order = self._order
        return {
            "kind": "pool",
            "topics": list(order.topics),
            "group": order.group,
            "mode": order.mode,
            "handler": order.handler.name,
            "bus": order.address,
            "concurrency": order.concurrency,
        }

    # ------------------------------------------------------------------ running

    def start(self) -> None:
        """Starts the workers, supervised by a thread. Raises the bus's errors."""
        self._prepare()
        self._supervisor.start()

    def run(self, *, until_idle: bool = False, progress: Asked = False) -> int:
        """Works until SIGTERM or SIGINT, or until another thread calls drain() or stop().

        until_idle: until there is nothing left to do, too: no record of the topics that is in hand,
            waits for the end of a pause, or was not begun. progress: of that, see wait_idle().

        The first signal drains, the second one interrupts. Returns the exit code of the program:
        0, or 1 if tasks were interrupted. Raises CrashLoopError if no worker gets anything done.
        """
        if until_idle:
            start_methods.refuse_fork(self._start_method)  # for a thread looks at what is left
        self._prepare()
        with self._signals():
            if until_idle:
                self._run_until_idle(progress)
            else:
                self._supervisor.run()
        return EXIT_DONE if self._all_finished() else EXIT_WORK_CUT_SHORT

    def wait_idle(self, timeout_s: float | None = None, *, progress: Asked = False) -> bool:
        """Waits until there is nothing left to do, or until the pool ends: then it returns False.

        progress: a bar on stderr, if that is a terminal; "always" writes lines where it is none.
        """
        from workers.bar import Bar  # here, because rich is slow to import

        watch = IdleWatch(self._order, self.statistics, Bar(self._order.group, progress, None))
        return watch.wait(self._supervisor.join, timeout_s)

    def _run_until_idle(self, progress: Asked) -> None:
        with ThreadPoolExecutor(1, "idle") as thread:
            looked = thread.submit(self._drain_when_idle, progress)
            self._supervisor.run()
        looked.result()  # raises what kept it from looking

    def _drain_when_idle(self, progress: Asked) -> None:
        try:
            self.wait_idle(progress=progress)
        finally:
            self._supervisor.drain()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Takes no more records, waits for those in hand, and ends the workers.

        After `timeout_s` (by default `drain_timeout_s`) handlers are interrupted; their records
        come again, to whoever works on the group next, and no attempt is counted. Returns True if
        none was. Raises CrashLoopError if the pool had given up.
        """
        self._supervisor.drain(timeout_s)
        self._supervisor.join()
        if self._supervisor.failure is not None:
            raise self._supervisor.failure
        return self._all_finished()

    def stop(self) -> bool:
        """Interrupts the handlers and ends the workers; returns as drain() does."""
        return self.drain(0.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.drain()
        else:
            self._supervisor.stop()
            self._supervisor.join()

    # ------------------------------------------------------------------ looking

    @property
    def topics(self) -> tuple[str, ...]:
        """What the workers read."""
        return self._order.topics

    @property
    def group_id(self) -> str:
        """The share group."""
        return self._order.group

    @property
    def dead_letter_topics(self) -> tuple[str, ...]:
        """Where records go that are given up, for each topic; empty without dead letters."""
        if not self._order.dead_letter:
            return ()
        return tuple(dead_letters.topic_of(topic, self.group_id) for topic in self.topics)

    def statistics(self) -> figures.Statistics:
        """What the workers are doing, and what they have done; also after their end."""
        return figures.read(self._supervisor.board)

    @property
    def failure(self) -> CrashLoopError | None:
        """Why the pool has given up, if it has; its workers are ended then."""
        return self._supervisor.failure

    def pids(self) -> list[int]:
        """The worker processes that are there now."""
        return self._supervisor.pids()

    def __repr__(self) -> str:
        topics = ", ".join(map(repr, self.topics))
        return f"<Pool of {self._order.handler.name} on {topics} as {self.group_id!r}>"

    # ------------------------------------------------------------------ details

    def _prepare(self) -> None:
        """Says what is wrong with the bus here, and not in each worker."""
        if self._order.dead_letter:
            for topic in self.topics:
                dead_letters.make_topic(self._order.address, topic, self.group_id)
        self._gate = self._order.gate()  # the limits are there for as long as the pool is
        if self._flight is not None:
            self._flight.open(self._supervisor.board)

    def _leave(self) -> None:
        if self._gate is not None:
            self._gate.close()
        if self._flight is not None:
            self._flight.close()

    def _all_finished(self) -> bool:
        return not (self._supervisor.killed_with_work or self.statistics().interrupted)

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
        if self._supervisor.is_draining:
            self._supervisor.stop()
        else:
            self._supervisor.drain()


def _batching(batch: int | None, batch_ms: float) -> Batching:
    if batch is not None and batch < 1:
        raise PoolOptionError(f"batch must be at least 1, not {batch!r}; None is one by one")
    return Batching(batch or 0, batch_ms)


def address_of(given: str | os.PathLike[str] | None) -> str | None:
    """The address as it can be used in any directory: workers may change theirs."""
    if given is None:
        given = os.environ.get("BUS_DIR")
    if given is None:
        return None
    text = os.fspath(given)
    if not isinstance(text, str):
        raise BusConfigurationError(f"bootstrap_servers {given!r} is not the path of a directory")
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))
