"""The life of an executor's worker: claim tasks, run them, put results into the log.

    poll ─► for each: begin (tickets) ─► run ─► send the result ─► done (tickets) ─► ack all

The result is in the log before the task is done, and both before it is acknowledged: a worker that
dies leaves tasks that nobody has begun with, which others run; tasks that are done, which others
acknowledge; and the one that it had in hand, which fails or is begun again.
"""

import logging
import os
import pickle
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from bus import Admin, ConsumerRecord, Producer, ShareConsumer
from bus.errors import (
    ClosedError,
    GroupIdNotFoundError,
    NonEmptyGroupError,
    UnknownTopicOrPartitionError,
)
from workers.chunks import run_chunk
from workers.envelope import BY_NAME, SMALL_BYTES, Envelope, Kind, seal, seal_bytes, unseal
from workers.errors import TaskInterrupted, WorkerDied
from workers.exits import Cause
from workers.post import Post
from workers.prefetch import Prefetch
from workers.remote import ToldException
from workers.tally import Tally
from workers.tickets import DONE, Tickets
from workers.verdicts import wait_for

logger = logging.getLogger(__name__)

#: The longest sleep without a task; what ends a worker wakes it.
POLL_MS: Final = 10_000.0
#: On the board all tasks of an executor are of topic 0, which is its only one.
_TOPIC: Final = 0
_FOREVER_MS: Final = 365 * 86_400_000
#: Functions that are kept; of each other callable, every task gets a new one.
_FUNCTIONS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the tasks of an executor come from, and where results go to."""

    address: str
    tasks: str
    results: str
    group: str
    tickets: str
    #: the executor's process, which supervises the workers
    owner_pid: int
    retries: int
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    #: the topics stay for the next executor of the name
    is_durable: bool = False

    def __call__(self, post: Post) -> None:
        """The life of a worker."""
        owner = os.pidfd_open(self.owner_pid)  # post has seen that it is alive
        TaskLife(self, post).run()
        if not self.is_durable and select.select([owner], [], [], 0)[0]:
            self._clean_up()
        os.close(owner)

    def _clean_up(self) -> None:
        """The executor was killed: nobody else removes its topics, and a bus keeps records."""
        with Admin(self.address, autostart=False) as admin:
            for topic in (self.tasks, self.results):
                with suppress(UnknownTopicOrPartitionError):  # another worker was first
                    admin.delete_topics([topic])
            with suppress(GroupIdNotFoundError, NonEmptyGroupError):
                admin.delete_groups([self.group])


class TaskLife:
    """One worker."""

    def __init__(self, workplace: Workplace, post: Post) -> None:
        self._place = workplace
        self._post = post
        self._tickets = Tickets.open(workplace.tickets)
        self._prefetch = Prefetch()
        self._tally = Tally(post.block, _TOPIC)
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._polling = False

    def run(self) -> None:
        """Until the drain."""
        place, post = self._place, self._post
        since = time.monotonic_ns()
        if place.initializer is not None:
            place.initializer(*place.initargs)
        took = time.monotonic_ns() - since
        with (
            Producer(place.address, acks=1, max_block_ms=_FOREVER_MS, autostart=False) as producer,
            ShareConsumer(
                place.tasks,
                bootstrap_servers=place.address,
                group_id=place.group,
                check_crcs=False,
                autostart=False,
            ) as consumer,
        ):
            self._producer, self._consumer = producer, consumer
            post.on_drain = self._on_drain
            post.ready(took)
            while not post.draining and not self._is_worn():
                self._work()
            post.wait_draining(threading.TIMEOUT_MAX)

    def _is_worn(self) -> bool:
        """Begins with nothing more: a successor is on its way, or will be asked for."""
        most = self._post.max_tasks
        if most is None or self._tally.begun < most:
            return False
        self._post.worn(f"{self._tally.begun} tasks")
        return True

    def _on_drain(self) -> None:
        if self._polling:
            self._consumer.close()  # what it may have claimed goes back

    # ------------------------------------------------------------------ a batch

    def _work(self) -> None:
        most = self._prefetch.count()
        if self._post.max_tasks is not None:
            most = min(most, self._post.max_tasks - self._tally.begun)
        reserves = most > 1  # what it has not begun with can be taken by a worker that is idle
        self._polling = True
        try:
            found = self._consumer.poll(POLL_MS, max_records=most, prefetch=reserves)
        except ClosedError:
            if not self._post.draining:
                raise
        self._polling = False
        if self._post.draining:
            return
        for records in found.values():
            self._run_batch(records, reserves)

    def _run_batch(self, records: list[ConsumerRecord], reserved: bool) -> None:
        since = time.monotonic()
        done: list[ConsumerRecord] = []
        self._tally.working()
        for record in records:
            if self._post.draining:
                break  # the others go back as the consumer is closed
            if reserved and not self._consumer.start(record):
                continue  # an idle worker has it
            self._serve(record)
            done.append(record)
        self._consumer.ack(*done)
        self._tally.flush()
        count = max(1, len(done))
        self._prefetch.took((time.monotonic() - since) * 1e9 / count, count)

    # ------------------------------------------------------------------ a task

    def _serve(self, record: ConsumerRecord) -> None:
        small = record.serialized_value_size <= SMALL_BYTES
        envelope = unseal(record.value if small else record.view())
        task, tickets = envelope.task, self._tickets
        times = tickets.begun(task)
        if times == DONE:
            return  # its last worker died before it could acknowledge it
        if times and times > self._place.retries + tickets.forgiven(task):
            self._send(seal(Kind.DIED, task, self._death(record, times)))
            tickets.done(task)
            return
        if not tickets.begin(task, times + 1):
            return
        self._tally.begin(record.partition, record.offset)
        self._answer(envelope)
        tickets.done(task)
        self._tally.end()

    def _answer(self, envelope: Envelope) -> None:
        """Runs the task and sends its result; if that cannot be sent, the error that says why."""
        task, post = envelope.task, self._post
        try:
            post.is_interruptible = True
            try:
                function = self._functions.get(envelope.function)
                if function is None:
                    function = self._function(envelope.function)
                if envelope.kind == Kind.CHUNK:
                    value: Any = run_chunk(function, *envelope.load())
                else:
                    arguments, keywords = envelope.load()
                    value = function(*arguments, **keywords)
            finally:
                post.is_interruptible = False
            self._send(seal(Kind.VALUE, task, value))
        except TaskInterrupted:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the task's
            self._send(seal_bytes(Kind.ERROR, task, ToldException.of(error).to_bytes()))

    def _function(self, pickled: bytes) -> Callable[..., Any]:
        found: Callable[..., Any] = pickle.loads(pickled)
        if isinstance(found, BY_NAME):
            if len(self._functions) >= _FUNCTIONS_MAX:
                self._functions.clear()
            self._functions[pickled] = found
        return found

    def _send(self, value: Any) -> None:
        self._producer.send(self._place.results, value)

    def _death(self, record: ConsumerRecord, times: int) -> WorkerDied:
        """How the last worker died that had the task, as its supervisor judged."""
        board = self._post.board
        last = wait_for(board, times, _TOPIC, record.partition, record.offset).last
        tries = "" if times == 1 else f", as {times - 1} before it"
        if last is None:
            return WorkerDied(f"the worker process ended while it ran the task{tries}")
        return WorkerDied(
            f"{last} while it ran the task{tries}",
            pid=last.pid,
            exit_code=last.code,
            signal=last.signal,
            out_of_memory=last.cause is Cause.OOM,
        )
