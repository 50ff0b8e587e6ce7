"""An executor of concurrent.futures whose tasks go through the bus.

    with Executor(4) as executor:
        future = executor.submit(pow, 2, 100)
        squares = list(executor.map(square, range(1_000_000)))

A worker process that dies takes nothing with it but the task that it had in hand: that one's
future gets WorkerDied, or the task is begun again (`retries`), and another process takes the
worker's place. An executor is never broken by its tasks.
"""

import atexit
import concurrent.futures
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from workers import start_methods
from workers.chunks import Items, Outcome, all_of, equal, guided, in_order
from workers.dispatch import Dispatch, end_all
from workers.durable_dispatch import DurableDispatch
from workers.envelope import NO_ARGUMENTS, Kind
from workers.errors import PoolOptionError
from workers.progress import Asked, MapProgress
from workers.recycling import Recycling
from workers.supervisor import Supervisor
from workers.task_future import TaskFuture
from workers.task_life import Workplace
from workers.task_topics import NAME, TaskTopics
from workers.tickets import DONE, Tickets

T = TypeVar("T")
P = ParamSpec("P")

WORKERS_MAX: Final = 256
RETRIES_MAX: Final = DONE - 2
#: What workers need, imported once by the fork server.
_PRELOAD: Final = ("workers.task_life", "workers.chunks")


class Supervised(NamedTuple):
    """What a supervisor is told of the workers."""

    workers: int
    start_method: str
    preload: Sequence[str]
    recycling: Recycling


class Executor(concurrent.futures.Executor):
    """Runs functions in worker processes.

    max_workers: processes; None: one for each CPU that this process may use.
    bootstrap_servers: directory of a bus for the tasks; None: a private one, gone with the
        executor.
    retries: how often a task is begun again whose worker died; an exception is no death.
    start_method: "forkserver" or "spawn".
    initializer, initargs: called in each worker before its first task. If it raises in one worker
        after the other, all futures get CrashLoopError.
    max_tasks_per_child: a worker is replaced after so many tasks, or up to a tenth fewer.
    preload: modules that the fork server imports once for all workers.
    durable, name: tasks and results are kept on the bus, under this name, until somebody has
        fetched them: an executor of the same name goes on where this one was killed, or detached.
        There is one of a name at a time; it needs `bootstrap_servers`.

    Arguments with buffers, as NumPy arrays, are written into shared memory once and read in place:
    the task sees them read-only. Results are copied out, and may be written to.

    Raises PoolOptionError, StartMethodError, NotPicklableError (of the initializer),
    ExecutorInUseError (of a name), and what
    starting or reaching a bus raises. Functions, arguments and results go through pickle: whoever
    may write to the bus can run code here.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        bootstrap_servers: str | os.PathLike[str] | None = None,
        retries: int = 0,
        start_method: str = start_methods.FORKSERVER,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        preload: Sequence[str] = (),
        durable: bool = False,
        name: str | None = None,
    ) -> None:
        self._workers = _checked_workers(max_workers)
        _check_number("retries", retries, 0, RETRIES_MAX)
        if max_tasks_per_child is not None:
            _check_number("max_tasks_per_child", max_tasks_per_child, 1, None)
        if initializer is not None and not callable(initializer):
            raise PoolOptionError(f"initializer {initializer!r} cannot be called")
        start_methods.check_picklable("the initializer", (initializer, initargs))
        start_methods.context_for(start_method)
        start_methods.refuse_fork(start_method)
        supervised = Supervised(
            self._workers,
            start_method,
            (*_PRELOAD, *preload),
            Recycling(max_tasks=max_tasks_per_child),
        )
        _check_name(durable, name, bootstrap_servers)
        dispatch = _begin(bootstrap_servers, name, retries, initializer, initargs, supervised)
        self._dispatch = dispatch
        # without a shutdown: what was submitted is done, and then all is taken down
        weakref.finalize(self, self._dispatch.shut_down, cancel=False).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Runs fn(*args, **kwargs) in a worker; returns at once with the future of the result.

        What cannot be pickled raises here. Waits for room while more than 512 MiB of arguments
        wait for workers. Raises RuntimeError after a shutdown, CrashLoopError if workers cannot
        live.
        """
        dispatch = self._dispatch
        pickled = dispatch.pickled(fn)
        if not args and not kwargs:
            return dispatch.submit(Kind.TASK, pickled, NO_ARGUMENTS)
        return dispatch.submit(Kind.TASK, pickled, (args, kwargs))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: Asked = False,
    ) -> Iterator[T]:
        """The results of fn over the iterables, in order, as `map` would give them.

        timeout: seconds from this call; then TimeoutError is raised.
        chunksize: items that travel together; None chooses, from one to thousands.
        buffersize: as many items, at most, are taken from the iterables before their results are
            asked for; None: all of them at once. With it, chunks are of one size.
        progress: a bar on stderr, if that is a terminal; "always" writes lines where it is none.

        Closing the iterator cancels what has not begun. Raises ValueError for a number below 1.
        """
        for name, number in (("chunksize", chunksize), ("buffersize", buffersize)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        deadline_s = None if timeout is None else time.monotonic() + timeout
        star = len(iterables) != 1
        items: Iterable[Any] = zip(*iterables, strict=False) if star else iterables[0]
        pending_max = None
        if buffersize is not None:
            size = chunksize or max(1, buffersize // (4 * self._workers))
            chunks: Iterator[Items] = equal(items, min(size, buffersize))
            pending_max = max(1, buffersize // min(size, buffersize))
        elif chunksize is not None:
            chunks = equal(items, chunksize)
        else:
            chunks = guided(all_of(items), self._workers)
        submit = partial(self._submit_chunk, self._dispatch.pickled(fn), star)
        cancel = self._dispatch.cancel
        if not progress:
            return in_order(submit, cancel, chunks, pending_max, deadline_s)
        bar = MapProgress(progress, iterables)
        return bar.shown(in_order(bar.counting(submit), cancel, chunks, pending_max, deadline_s))

    def _submit_chunk(self, pickled: bytes, star: bool, items: Items) -> TaskFuture[Outcome]:
        return self._dispatch.submit(Kind.CHUNK, pickled, (items, star))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; ends the workers when all are done. Idempotent.

        wait: return when everything is taken down. cancel_futures: cancel what has not begun.
        """
        self._dispatch.shut_down(cancel=cancel_futures)
        if wait:
            self._dispatch.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for what was submitted; after Ctrl-C only for what has begun.

        A durable executor keeps the rest then, others cancel it.
        """
        interrupted = isinstance(error, KeyboardInterrupt)
        if interrupted and isinstance(self._dispatch, DurableDispatch):
            self.detach()
        else:
            self.shutdown(cancel_futures=interrupted)

    def __reduce__(self) -> Any:
        raise TypeError(
            "an Executor cannot be sent to another process; a task that needs one makes its own"
        )

    # ------------------------------------------------------------------ durable ones

    @property
    def _durable(self) -> DurableDispatch:
        if not isinstance(self._dispatch, DurableDispatch):
            raise RuntimeError("this executor keeps nothing: make it with durable=True and a name")
        return self._dispatch

    def pending(self) -> list[TaskFuture[Any]]:
        """The futures of all tasks whose results nobody has fetched, in the order of submission.

        Those of programs before this one, too. A result is fetched by result() or exception(). A
        task that was a part of a map() has a list as its result. Raises RuntimeError if this
        executor is not durable, as the other methods below do.
        """
        return self._durable.pending()

    def future(self, task: int) -> TaskFuture[Any]:
        """The future of a task by its number, `TaskFuture.task`; also of one that was fetched.

        That is possible for an hour. Raises UnknownTaskError.
        """
        return self._durable.future(task)

    def forget(self, *futures: TaskFuture[Any]) -> None:
        """Their results may be deleted at once. Raises ValueError for one that is not done."""
        self._durable.forget(one.task for one in futures)

    def flush(self, timeout: float | None = None) -> None:
        """Waits until all that was submitted is safe from a power loss, too.

        It is safe from kills as soon as submit() has returned. Raises BusTimeoutError after so
        many seconds.
        """
        self._durable.flush(timeout)

    def detach(self) -> None:
        """Ends the workers when they have done what they have in hand, and keeps all the rest.

        After 30 s they are interrupted; what they had in hand is begun again by the next executor
        of the name. Futures that are not done raise DetachedError.
        """
        self._durable.leave()
        self._dispatch.join()

    def pids(self) -> list[int]:
        """The worker processes that are there now."""
        supervisor = self._dispatch.supervisor
        return [] if supervisor is None else supervisor.pids()


def _begin(
    bootstrap_servers: str | os.PathLike[str] | None,
    name: str | None,
    retries: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    supervised: Supervised,
) -> Dispatch:
    """Makes all that an executor has, and starts its workers; or leaves nothing."""
    with ExitStack() as undo:
        topics = TaskTopics(bootstrap_servers, name)
        if name is None:
            undo.callback(topics.close)
            tickets = Tickets.create()
            undo.callback(tickets.close)
            dispatch = Dispatch(topics, tickets)
        else:  # what there is of it stays as it is
            tickets = Tickets.named(topics.tickets_name())
            undo.callback(tickets.close)
            topics.make()
            dispatch = DurableDispatch(topics, tickets)
        undo.callback(dispatch.detach)
        workplace = Workplace(
            topics.address,
            topics.tasks,
            topics.results,
            topics.group,
            tickets.path,
            os.getpid(),
            retries,
            initializer,
            initargs,
            is_durable=name is not None,
        )
        dispatch.start(
            Supervisor(
                workplace,
                supervised.workers,
                description={"executor": topics.group},
                start_method=supervised.start_method,
                preload=supervised.preload,
                recycling=supervised.recycling,
                observer=dispatch,
            )
        )
        undo.pop_all()
    return dispatch


def _checked_workers(max_workers: int | None) -> int:
    if max_workers is None:
        return min(len(os.sched_getaffinity(0)), WORKERS_MAX)
    if isinstance(max_workers, int) and max_workers < 1:
        raise PoolOptionError(f"max_workers must be greater than 0, not {max_workers}")
    _check_number("max_workers", max_workers, 1, WORKERS_MAX)
    return max_workers


def _check_name(durable: bool, name: str | None, address: object) -> None:
    if durable != (name is not None) or (durable and address is None):
        raise PoolOptionError(
            "durable=True needs a name and bootstrap_servers, and a name needs durable=True"
        )
    if name is not None and not NAME.fullmatch(name):
        raise PoolOptionError(
            f"name {name!r} must have 1 to 100 letters, digits, '.', '-' and '_', and not begin"
            " with a '.'"
        )


def _check_number(name: str, value: object, least: int, most: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PoolOptionError(f"{name} must be a whole number from {least}, not {value!r}")
    if most is not None and value > most:
        raise PoolOptionError(f"{name} must be at most {most}, not {value!r}")


atexit.register(end_all)
