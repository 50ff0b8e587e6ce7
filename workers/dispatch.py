"""The executor's own side: tasks go out, results come in, and the end of it all.

    submit: any thread ─► seal ─► ticket ─► topic of tasks ─► workers ─► topic of results
                                                                              │
    future.set_result() ◄──────────── one thread, "executor" ◄────────────────┘

There is no thread and no pipe on the way out: `submit` writes the record itself. The thread on the
way in ends when nothing is pending after a shutdown, and takes everything down.
"""

import itertools
import logging
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from bus import Consumer, ConsumerRecord, Producer, RecordFuture, TopicPartition
from bus.errors import BusError, BusTimeoutError, ClosedError
from workers.envelope import BY_NAME, SMALL_BYTES, Envelope, Kind, plain, seal, unseal
from workers.errors import CrashLoopError
from workers.observer import Observer
from workers.remote import ToldException
from workers.supervisor import Supervisor
from workers.task_future import TaskFuture
from workers.task_topics import TaskTopics
from workers.tickets import PLACES, Tickets

logger = logging.getLogger(__name__)

#: A send that waits for room looks so often whether there is anybody left to make room.
SEND_SLICE_MS: Final = 500
#: The thread's longest sleep; what ends it wakes it.
POLL_MS: Final = 10_000.0
#: With so many tasks pending, results are gathered for a moment instead of one by one.
MANY_PENDING: Final = 64
GATHER_TASK_S: Final = 2e-6
GATHER_MAX_S: Final = 0.005
#: Functions whose pickles are kept.
_FUNCTIONS_MAX: Final = 256


class Dispatch(Observer):
    """Everything of an Executor that outlives it while tasks are pending."""

    def __init__(self, topics: TaskTopics, tickets: Tickets) -> None:
        """Starts nothing yet: see `start`."""
        self._topics = topics
        self._tickets = tickets
        self._owner_pid = os.getpid()
        self._pending: dict[int, TaskFuture[Any]] = {}
        self._numbers = itertools.count(1)
        self._functions: dict[int, tuple[Any, bytes]] = {}
        self._changing = threading.RLock()  # collecting garbage in it may end the executor
        self._closing = False
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._producer = Producer(
            topics.address, acks=1, max_block_ms=SEND_SLICE_MS, autostart=False
        )
        self._consumer = Consumer(bootstrap_servers=topics.address, autostart=False)
        self._results = TopicPartition(topics.results, 0)
        self._consumer.assign([self._results])
        self._consumer.seek_to_beginning()
        self.supervisor: Supervisor | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Starts the workers, and the thread that takes their results."""
        self.supervisor = supervisor
        supervisor.start()
        self._thread = threading.Thread(target=self._collect, name="executor", daemon=True)
        self._thread.start()
        _living.add(self)

    # ------------------------------------------------------------------ out

    def submit(self, kind: Kind, function: bytes, arguments: tuple[Any, ...]) -> TaskFuture[Any]:
        """See Executor.submit; `function` is what `pickled` made."""
        future = self._register()
        task = future.task
        try:
            self._send(task, seal(kind, task, arguments, function))
        except BaseException:
            self._forget(task)
            raise
        return future

    def _check_open(self) -> None:
        if os.getpid() != self._owner_pid:
            raise RuntimeError(
                f"this executor belongs to process {self._owner_pid}, which forked this one; make"
                " one of its own here"
            )
        if self._failure is not None:
            raise again(self._failure)
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def pickled(self, function: Callable[..., Any]) -> bytes:
        """The pickle of a function. Raises whatever pickling raises."""
        found = self._functions.get(id(function))
        if found is not None and found[0] is function:
            return found[1]
        pickled = pickle.dumps(function, protocol=pickle.HIGHEST_PROTOCOL)
        if isinstance(function, BY_NAME):
            if len(self._functions) >= _FUNCTIONS_MAX:
                self._functions.clear()
            self._functions[id(function)] = (function, pickled)
        return pickled

    def _register(self) -> TaskFuture[Any]:
        with self._changing:
            self._check_open()
            task = next(self._numbers)
            for _ in range(PLACES):
                if self._has_place(task):
                    break
                task = next(self._numbers)
            else:
                raise RuntimeError(f"{PLACES} tasks are pending; wait for some of them")
            self._tickets.issue(task)
            future = self._future(task)
            self._pending[task] = future
            return future

    def _has_place(self, task: int) -> bool:
        return task - PLACES not in self._pending

    def _future(self, task: int) -> TaskFuture[Any]:
        return TaskFuture(task, self)

    def _send(self, task: int, value: Any) -> None:
        while True:
            try:
                self._sent(task, self._producer.send(self._topics.tasks, value))
                return
            except BusTimeoutError:  # the log is full of tasks: it waits for workers
                if self._failure is not None:
                    raise again(self._failure) from None

    def _sent(self, task: int, record: RecordFuture) -> None:
        """Where a task is in the log."""

    def _forget(self, task: int) -> TaskFuture[Any] | None:
        future = self._pending.pop(task, None)
        if self._closing and not self._pending:
            self._consumer.close()  # wakes the thread, which has nothing to wait for any more
        return future

    # ------------------------------------------------------------------ in

    def _collect(self) -> None:
        try:
            while not (self._closing and not self._pending):
                try:
                    found = self._consumer.poll(POLL_MS, max_records=4096)
                except ClosedError:
                    break
                for records in found.values():
                    for record in records:
                        self._complete(record)
                del found
                self._look_after()
                many = len(self._pending)
                if many > MANY_PENDING:
                    time.sleep(min(many * GATHER_TASK_S, GATHER_MAX_S))
        except BaseException as error:
            logger.exception("the executor cannot read results any more")
            self.fail(error)
        finally:
            self._take_down()

    def _look_after(self) -> None:
        """Between results."""

    def _complete(self, record: ConsumerRecord) -> None:
        found = None
        if record.serialized_value_size <= SMALL_BYTES:
            found = plain(record.value)
        if found is None or found[0] != Kind.VALUE:
            self._complete_any(unseal(record.view()))
            return
        _, task, stream = found
        future = self._pending.pop(task, None)
        if future is None:
            return  # it was told already, by a worker that died before it could say so
        try:
            value = pickle.loads(stream)
        except BaseException as failed:  # noqa: BLE001 - code of the value's own
            future.set_exception(failed)
        else:
            future.complete(value)

    def _complete_any(self, envelope: Envelope) -> None:
        future = self._pending.pop(envelope.task, None)
        if future is None:
            return
        try:
            value, error = _open(envelope)
        except BaseException as failed:  # noqa: BLE001 - code of the value's own
            value, error = None, failed
        if error is not None:
            future.set_exception(error)
        else:
            future.complete(value)

    # ------------------------------------------------------------------ cancelling

    def has_begun(self, task: int) -> bool:
        """See Canceller."""
        return self._tickets.has_begun(task)

    def withdraw(self, future: TaskFuture[Any]) -> bool:
        """See Canceller."""
        return self.cancel([future]) == 1

    def cancel(self, futures: Iterable[TaskFuture[Any]]) -> int:
        """Cancels those with which nobody has begun; how many."""
        known = {one.task: one for one in futures if self._pending.get(one.task) is one}
        count = 0
        for task in self._tickets.withdraw(known):
            self._withdrawn(task)
            self._forget(task)
            count += known[task].cancel_withdrawn()
        return count

    def _withdrawn(self, task: int) -> None:
        """Nobody has begun with the task, and nobody will."""

    # ------------------------------------------------------------------ the end

    def shut_down(self, *, cancel: bool) -> None:
        """Takes no more tasks, and ends when nothing is pending. Does not wait."""
        if os.getpid() != self._owner_pid:
            return
        with self._changing:
            self._closing = True
        if cancel:
            self.cancel(list(self._pending.values()))
        if not self._pending:
            self._consumer.close()

    def join(self) -> None:
        """Waits until everything is taken down; does not if it is called by a callback."""
        if os.getpid() == self._owner_pid and threading.current_thread() is not self._thread:
            self._over.wait()

    def on_give_up(self, error: CrashLoopError) -> None:
        """See Observer."""
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Nothing that is pending will ever be done."""
        with self._changing:
            self._failure = error
            self._closing = True
        for task in list(self._pending):
            future = self._pending.pop(task, None)
            if future is not None and not future.done():
                future.set_exception(again(error))
        self._consumer.close()

    def detach(self) -> None:
        """Leaves the bus."""
        self._producer.close()
        self._consumer.close()

    def _take_down(self) -> None:
        supervisor = self.supervisor
        assert supervisor is not None
        self._end_workers(supervisor)
        supervisor.join()
        try:
            self._tidy_up()
        except (BusError, OSError):
            logger.exception("the executor could not remove what it had on the bus")
        finally:
            _living.discard(self)
            self._over.set()

    def _end_workers(self, supervisor: Supervisor) -> None:
        supervisor.stop()  # they have nothing in hand

    def _tidy_up(self) -> None:
        self.detach()
        self._tickets.close()
        self._topics.close()


def _open(envelope: Envelope) -> tuple[Any, BaseException | None]:
    if envelope.kind == Kind.ERROR:
        return None, ToldException.from_bytes(bytes(envelope.stream)).exception()
    value = envelope.copied().load()
    return (None, value) if envelope.kind == Kind.DIED else (value, None)


def again(error: BaseException) -> BaseException:
    """An error of its own for each future: a traceback is written into it where it is raised."""
    made: BaseException = pickle.loads(pickle.dumps(error))
    made.__cause__ = error
    return made


#: Those that have not ended.
_living: "weakref.WeakSet[Dispatch]" = weakref.WeakSet()


def end_all() -> None:
    """At the exit of the program: what was submitted is still done, as in concurrent.futures."""
    found = [one for one in _living if one._owner_pid == os.getpid()]
    for one in found:
        one.shut_down(cancel=False)
    for one in found:
        one.join()
