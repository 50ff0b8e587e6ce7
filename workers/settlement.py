"""What becomes of each record that a worker has claimed: worked on, done, again, or given up.

    claimed ─admit─► in hand ─► done          ack
       │                │ ├───► failed        nack with a pause, or a dead letter and reject
       │                │ └───► interrupted   release: nothing is counted
       └────────────────┴─────► given up      dead letter, then reject

A record whose holder died is looked at twice. What ended the holder is read from the board, and
the dead letters are searched: the holder may have died after it wrote the letter.

What is noted of an attempt (`order.recorder`) is noted before the bus is told: if the worker dies
in between, the note is there and the record comes again, and the one explains the other.
"""

import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

import bus
from bus import ConsumerRecord
from bus.errors import BusError, IllegalStateError
from workers.attempts import OUTCOMES, Outcome
from workers.current_task import CurrentTask
from workers.gate import Gate, Pass
from workers.layout import Word
from workers.letters import Letter, Source
from workers.logs import fields_of
from workers.order import Order
from workers.post import Post
from workers.remote import message, type_name
from workers.retry import Again, Counts, Decision, Trouble
from workers.verdicts import Deaths, wait_for

logger = logging.getLogger(__name__)

#: A record whose dead letter cannot be written now comes again after this.
LETTER_PAUSE_MS: Final = 1000
_NO_DEATHS: Final = Deaths()
_NO_COUNTS: Final = Counts()


class Settlement:
    """Admits records and settles them. For one worker."""

    def __init__(self, post: Post, order: Order, consumer: bus.ShareConsumer) -> None:
        self._post = post
        self._block = post.block
        self._order = order
        self._consumer = consumer
        self._timeout_ns = order.timeout_ns
        self._numbers = {topic: number for number, topic in enumerate(order.topics)}
        self._draw = order.draw()
        self._letters = order.letters()
        self._recorder = order.recorder(post)
        self._gate = order.gate()
        #: what the tasks in hand have of the limits, by their slots
        self._passes: dict[int, Pass] = {}

    def close(self) -> None:
        """Ends what writes dead letters, and leaves the limits."""
        if self._gate is not None:
            self._gate.close()
        for letters in self._letters.values():
            letters.close()

    # ------------------------------------------------------------------ beginning

    def admit(self, record: ConsumerRecord, slot: int) -> CurrentTask | None:
        """Begins with a claimed record.

        None if another worker has it, if it may not run yet, or if it is given up.
        """
        if self._gate is None:
            started = self._consumer.start(record)
        else:
            started = self._start_within_limits(self._gate, record, slot)
        return self._begun(record, slot) if started else None

    def _start_within_limits(self, gate: Gate, record: ConsumerRecord, slot: int) -> bool:
        try:
            answer = gate.ask(record)
        except Exception as error:  # noqa: BLE001 - the key is code of the pool's owner
            self._fail_at_the_gate(record, slot, error)
            return False
        if not isinstance(answer, Pass):
            # it may have been taken by an idle worker meanwhile: then that one asks
            with suppress(IllegalStateError):
                self._consumer.release(record, delay_ms=answer)
            self._block.words[Word.DEFERRED] += 1
            return False
        if not self._consumer.start(record):
            answer.undo()
            return False
        self._passes[slot] = answer
        return True

    def _fail_at_the_gate(self, record: ConsumerRecord, slot: int, error: Exception) -> None:
        """The limit's key cannot be told: that counts as if the handler had raised."""
        task = self._begun(record, slot) if self._consumer.start(record) else None
        if task is not None:
            self.failed(task, Trouble.FAILURE, error)

    def _begun(self, record: ConsumerRecord, slot: int) -> CurrentTask | None:
        now_ns = time.monotonic_ns()
        deadline_ns = now_ns + self._timeout_ns if self._timeout_ns else 0
        number = self._numbers[record.topic]
        self._block.begin(slot, number, record.partition, record.offset, now_ns, deadline_ns)
        tried = self._consumer.attempts(record)
        if tried.deliveries == 1:
            return CurrentTask(record, 1, _NO_COUNTS, self._post, slot, deadline_ns)
        return self._admit_again(record, slot, tried)

    def _admit_again(
        self, record: ConsumerRecord, slot: int, tried: bus.Attempts
    ) -> CurrentTask | None:
        deaths, board = _NO_DEATHS, self._post.board
        if tried.crash:
            number = self._numbers[record.topic]
            deaths = wait_for(board, tried.crash, number, record.partition, record.offset)
        counts = Counts(
            tried.failure, tried.timeout + deaths.timeout, deaths.crash, tried.oom + deaths.oom
        )
        now_ns = time.monotonic_ns()  # the verdict may have been waited for
        deadline_ns = now_ns + self._timeout_ns if self._timeout_ns else 0
        self._block.extend(slot, deadline_ns)
        task = CurrentTask(record, tried.deliveries, counts, self._post, slot, deadline_ns)
        spent = self._order.retry.spent(counts)
        if spent is None and not (tried.crash and self._has_letter(task)):
            return task
        reason = "its letter was written before" if spent is None else spent.reason
        self._give_up(task, reason, counts, deaths=deaths)
        return None

    def was_in_a_crash(self, record: ConsumerRecord) -> bool:
        """True if a worker died with this record in hand: it is best worked on alone."""
        return bool(self._consumer.attempts(record).crash)

    # ------------------------------------------------------------------ ends

    def done(self, task: CurrentTask) -> int:
        """The handler returned; returns how long it took (ns)."""
        if self._recorder is not None:
            self._recorder.note(task, Outcome.DONE)
        self._consumer.ack(task.record)
        return self._end(task, Word.DONE)

    def interrupted(self, task: CurrentTask) -> None:
        """The worker ends before the task did."""
        if self._recorder is not None:
            self._recorder.note(task, Outcome.INTERRUPTED)
        self._consumer.release(task.record)
        self._end(task, Word.RELEASED)

    def postponed(self, task: CurrentTask, delay_ms: float) -> None:
        """The handler has put it off: it comes again later, and nothing is counted."""
        if self._recorder is not None:
            self._recorder.note(task, Outcome.INTERRUPTED)
        self._consumer.release(task.record, delay_ms=delay_ms)
        self._end(task, Word.DEFERRED)

    def _end(self, task: CurrentTask, outcome: Word) -> int:
        took_ns = self._block.end(task.slot, outcome)
        if self._gate is not None:
            passed = self._passes.pop(task.slot, None)
            if passed is not None:
                passed.give_back()
        return took_ns

    def failed(self, task: CurrentTask, trouble: Trouble, error: BaseException) -> None:
        """The handler raised, or was interrupted because its time was over."""
        self._block.extend(task.slot, 0)
        counts = task.counts.plus(trouble)
        decision = self._decide(trouble, counts, error)
        if self._recorder is not None:
            self._recorder.note(task, OUTCOMES[trouble], error, str(decision))
        if trouble is Trouble.TIMEOUT:
            self._block.words[Word.TIMEOUTS] += 1
        logger.warning(
            "%s, attempt %d: %s: %s: %s; %s",
            *(task.uid, task.attempt, trouble.value, type_name(error), message(error), decision),
            extra=fields_of(task),
        )
        if isinstance(decision, Again):
            self._again(task, trouble, decision)
        else:
            self._give_up(task, decision.reason, counts, error=error)

    def _decide(self, trouble: Trouble, counts: Counts, error: BaseException) -> Decision:
        retry = self._order.retry
        try:
            return retry.after(trouble, counts, error, self._draw)
        except Exception:
            logger.exception("Retry.delay raised; the pause that doubles is taken")
            return replace(retry, delay=None).after(trouble, counts, error, self._draw)

    def _again(self, task: CurrentTask, trouble: Trouble, decision: Again) -> None:
        delay_ms = decision.delay_s * 1000
        self._consumer.nack(task.record, delay_ms=delay_ms, cause=trouble.value)
        self._block.words[Word.RETRIED] += 1
        self._end(task, Word.FAILED)

    def _has_letter(self, task: CurrentTask) -> bool:
        record = task.record
        letters = self._letters.get(record.topic)
        source = Source(record.topic, record.partition, record.offset)
        return letters is not None and letters.holds(source, record.timestamp)

    def _give_up(
        self,
        task: CurrentTask,
        reason: str,
        counts: Counts,
        *,
        error: BaseException | None = None,
        deaths: Deaths = _NO_DEATHS,
    ) -> None:
        self._block.extend(task.slot, 0)
        if self._recorder is not None and error is None:  # no handler was called
            self._recorder.note(task, Outcome.GIVEN_UP, None, reason)
        letter = Letter.of(
            task.record,
            self._order.group,
            reason,
            deliveries=task.attempt,
            counts=counts,
            error=error,
            last_exit=deaths.last,
        )
        if self._bury(task, letter, may_be_there=error is None):
            self._consumer.reject(task.record)
            self._block.words[Word.DEAD] += 1
        self._end(task, Word.FAILED)

    def _bury(self, task: CurrentTask, letter: Letter, *, may_be_there: bool) -> bool:
        letters, told = self._letters.get(task.record.topic), fields_of(task)
        if letters is None:
            logger.error("%s is given up: %s", task.uid, letter.reason, extra=told)
            return True
        try:
            letters.write(task.record, letter, may_be_there=may_be_there)
        except BusError:
            logger.exception(
                "the dead letter of %s cannot be written; it comes again", task.uid, extra=told
            )
            self._consumer.nack(task.record, delay_ms=LETTER_PAUSE_MS)
            return False
        logger.error(
            "%s is given up: %s; see %s", task.uid, letter.reason, letters.topic, extra=told
        )
        return True
