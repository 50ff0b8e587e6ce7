"""Runs a handler in the test's own process, with a clock that the test moves.

    with workers.testing.Runner(handle, retry=Retry(failure=3)) as runner:
        runner.send(b"7")
        runner.run_until_idle()       # the first attempt fails
        runner.advance(0.2)           # its pause is over, and it is tried again
        runner.run_until_settled()    # as many pauses as it takes
        assert [letter.record.value for letter in runner.dead_letters] == [b"7"]

What is run is the worker's own code: claims, calls, retries, pauses, verdicts and dead letters.
What stands in for something is the bus (a list), the process (an exception, `crash()`), and time.
There is one worker, so nothing is parallel but what an async handler does by itself.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from workers import figures
from workers.attempts import Outcome, Recorder
from workers.dead_letters import DeadLetters
from workers.handler import Handler
from workers.layout import Head
from workers.letters import topic_of
from workers.lone_post import private_board
from workers.order import Order
from workers.post import Post
from workers.redriving import DeadLetter
from workers.retry import Retry
from workers.testing.attempts import Attempt, ProcessDeath
from workers.testing.clock import FakeClock
from workers.testing.letters import ListedLetters
from workers.testing.life import Life
from workers.testing.queue import Queue, State
from workers.testing.record import Record, checked, checked_headers
from workers.verdicts import Kind, exit_word

_NS: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOrder(Order):
    """A pool's order whose outside world is that of a test."""

    #: not for pytest, which looks for classes of that name
    __test__ = False

    seed: int
    listed: list[DeadLetter]
    attempts: list[Recorder]

    def letters(self) -> dict[str, DeadLetters]:
        if not self.dead_letter:
            return {}
        return {topic: ListedLetters(topic, self.group, self.listed) for topic in self.topics}

    def recorder(self, post: Post) -> Recorder | None:
        return self.attempts[-1]

    def draw(self) -> random.Random:
        return random.Random(self.seed)


class Runner:
    """A worker of a pool, for tests. A context manager; it leaves nothing.

    handler, retry, timeout_s, dead_letter, concurrency, init, exit: as those of workers.Pool. The
        handler may be of any kind, a lambda as well: it does not travel.
    topic, group_id: their names, as records and dead letters tell them.
    seed: of the jitter in pauses; with the same seed, a test goes the same way.

    Attributes: `clock` (see FakeClock), `attempts` (all of them, in the order of their ends),
    `dead_letters`, `deaths` (how often its worker process ended).

    Raises HandlerError and PoolOptionError for what cannot be.
    """

    def __init__(
        self,
        handler: Callable[..., Any],
        *,
        topic: str = "topic",
        group_id: str = "group",
        retry: Retry | None = None,
        dead_letter: bool = True,
        timeout_s: float | None = None,
        concurrency: int = 1,
        init: Callable[[], Any] | None = None,
        exit: Callable[..., Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = FakeClock()
        self.attempts: list[Attempt] = []
        self.dead_letters: list[DeadLetter] = []
        self.deaths = 0
        self._recorders: list[Recorder] = []
        self._order = TestOrder(
            address=None,
            topics=(topic,),
            group=group_id,
            handler=Handler(handler, init, exit),
            retry=retry or Retry(),
            dead_letter=dead_letter,
            timeout_s=timeout_s,
            concurrency=concurrency,
            log_level=None,
            seed=seed,
            listed=self.dead_letters,
            attempts=self._recorders,
        )
        self._topic = topic
        self._queue = Queue()
        self._board = private_board([topic], group_id, concurrency)
        self._life: Life | None = None
        self._next: dict[int, int] = {}

    def __enter__(self) -> Self:
        with self._going():
            self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        with self._going():
            if self._life is not None:
                self._life.end()

    # ------------------------------------------------------------------ what a test does

    def send(
        self,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        partition: int = 0,
    ) -> Record:
        """Sends a record; nothing is done with it yet. Raises TypeError for what is not bytes."""
        offset = self._next.get(partition, 0)
        self._next[partition] = offset + 1
        record = Record(
            self._topic,
            partition,
            offset,
            self.clock.wall_ns,
            checked(key, "a key"),
            checked(value, "a value"),
            checked_headers(headers),
        )
        self._queue.add(record)
        return record

    def run_until_idle(self) -> None:
        """Works on all that is ready. What waits for the end of a pause goes on waiting.

        The clock moves only as far as handlers sleep.
        """
        with self._going():
            self._work()

    def advance(self, seconds: float) -> None:
        """Moves the clock, and works on what becomes ready meanwhile, each record at its time."""
        end_ns = self.clock.monotonic_ns + round(seconds * _NS)
        with self._going():
            self._work()
            while (due_ns := self._queue.next_due_ns()) is not None and due_ns <= end_ns:
                self.clock.jump(due_ns)
                self._work()
            self.clock.jump(end_ns)

    def run_until_settled(self) -> None:
        """Works until each record is done or given up; pauses pass at once."""
        with self._going():
            self._work()
            while (due_ns := self._queue.next_due_ns()) is not None:
                self.clock.jump(due_ns)
                self._work()

    # ------------------------------------------------------------------ what a test asks

    @property
    def done(self) -> list[Record]:
        """The records that were finished."""
        return self._records(State.DONE)

    @property
    def dead(self) -> list[Record]:
        """The records that were given up."""
        return self._records(State.DEAD)

    @property
    def waiting(self) -> dict[Record, float]:
        """The records that are to be tried again, and in how many seconds."""
        now_ns = self.clock.monotonic_ns
        slots = self._queue.in_state(State.DELAYED)
        return {slot.record: max(0.0, (slot.due_ns - now_ns) / _NS) for slot in slots}

    @property
    def dead_letter_topic(self) -> str:
        """The topic that a pool would have for them."""
        return topic_of(self._topic, self._order.group)

    def attempts_at(self, record: Record) -> list[Attempt]:
        """What was tried with one record."""
        return [one for one in self.attempts if one.record is record]

    def statistics(self) -> figures.Statistics:
        """As Pool.statistics()."""
        with self._going():
            return figures.read(self._board)

    # ------------------------------------------------------------------ details

    def _records(self, *states: State) -> list[Record]:
        return [slot.record for slot in self._queue.in_state(*states)]

    @contextmanager
    def _going(self) -> Iterator[None]:
        with self.clock.installed():
            yield

    def _begin(self) -> None:
        life = Life(self._order, self._queue, self.clock, self._board, self.attempts)
        self._recorders.append(life.attempts)
        self._life = life
        self.clock.on_move = life.on_move
        life.begin()

    def _work(self) -> None:
        assert self._life is not None, "a Runner is used within `with`"
        while True:
            try:
                self._life.work()
                return
            except ProcessDeath as death:
                self._bury(self._life, death)
                self._begin()

    def _bury(self, life: Life, death: ProcessDeath) -> None:
        """What a supervisor does about the death of a worker."""
        self.deaths += 1
        late = death.late
        for task in life.block.tasks():
            kind = death.kind
            if late is not None and task.where != late.where:
                kind = Kind.INTERRUPT
            slot = self._queue.slot(task.partition, task.offset)
            life.attempts.add(
                slot.record, slot.deliveries, Outcome.DIED, task.since_ns, None, kind.name.lower()
            )
            self._board.judge(task.where, kind, death.exit.pid, exit_word(death.exit))
        self._board.add(_HEADS[death.kind])
        self._board.add(Head.RESTARTS)
        life.abandon()
        life.block.gone()
        self._queue.die()


_HEADS: Final = {
    Kind.CRASH: Head.CRASHES,
    Kind.OOM: Head.OUT_OF_MEMORY,
    Kind.TIMEOUT: Head.TIMEOUT_KILLS,
}
