"""What the two logs of a durable executor tell who comes after a kill.

    tasks      TASK, CHUNK: a task, with its number
    results    VALUE, ERROR, DIED: the first one of a number is the task's result
               CANCELLED, FETCHED, FORGOTTEN: what became of some numbers

A task is wanted unless it was cancelled or forgotten; a wanted one without a result is to be done.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bus import Consumer, ConsumerRecord, TopicPartition
from workers.envelope import Kind, head, numbers, unseal

_RECORDS: Final = 4096
#: A poll at a log that is known to have more.
_POLL_MS: Final = 1000.0
_RESULTS: Final = (Kind.VALUE, Kind.ERROR, Kind.DIED)


class Submitted(NamedTuple):
    """A task in its log."""

    offset: int
    is_chunk: bool


@dataclass(slots=True)
class History:
    """What was read.

    `tasks`: all in the log, in order; `settled`: the first record about a task in the other log,
    its result or the end of it; `fetched`, `gone`: numbers; `last`: the highest number of all.
    """

    tasks: dict[int, Submitted] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)
    fetched: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    last: int = 0

    def note_task(self, record: ConsumerRecord) -> None:
        """A record of the topic of tasks."""
        kind, task = head(record.view())
        self.tasks[task] = Submitted(record.offset, kind == Kind.CHUNK)
        self.last = max(self.last, task)

    def note_result(self, record: ConsumerRecord) -> None:
        """A record of the topic of results."""
        data = record.view()
        kind, task = head(data)
        if kind in _RESULTS:
            self.settled.setdefault(task, record.offset)
            self.last = max(self.last, task)
            return
        tasks = numbers(unseal(data).stream)
        if kind == Kind.FETCHED:
            self.fetched.update(tasks)
        else:
            self.gone.update(tasks)
            for one in tasks:
                self.settled.setdefault(one, record.offset)


def read(consumer: Consumer, tasks: TopicPartition, results: TopicPartition) -> History:
    """Reads both logs to their ends of now. The consumer is left assigned to the results."""
    history = History()
    _each(consumer, tasks, history.note_task)
    _each(consumer, results, history.note_result)
    return history


def _each(
    consumer: Consumer, partition: TopicPartition, note: Callable[[ConsumerRecord], None]
) -> None:
    consumer.assign([partition])
    consumer.seek_to_beginning()
    end = consumer.end_offsets([partition])[partition]
    for record in _records(consumer, partition, end):
        note(record)


def _records(consumer: Consumer, partition: TopicPartition, end: int) -> Iterator[ConsumerRecord]:
    while consumer.position(partition) < end:
        for records in consumer.poll(_POLL_MS, max_records=_RECORDS).values():
            yield from (record for record in records if record.offset < end)
