"""The topic of dead letters, as a worker writes it: first the letter, then the rejection.

If the worker dies between the two, the record comes again and is given up again. The next holder
then looks for the letter before it writes one: a record has one holder at a time, so nobody else
writes the same letter. It looks from the time of the record on, which is before any letter of it
unless the clock was set back in between; a letter that retention has removed is written again.
"""

import logging
from contextlib import suppress
from typing import Any, Final

import bus
from bus.errors import MessageSizeTooLargeError, TopicAlreadyExistsError
from workers.errors import DeadLetterError
from workers.letters import Header, Letter, Source, original_headers, source_of
from workers.letters import topic_of as topic_of

logger = logging.getLogger(__name__)

#: What is left of a traceback if the record leaves no room for more.
SHORT_TRACEBACK_CHARS: Final = 400
SEND_TIMEOUT_S: Final = 60.0
_POLL_RECORDS: Final = 1000
_PARTITION: Final = 0


def make_topic(address: str | None, topic: str, group: str) -> str:
    """Makes the topic of a group's dead letters, unless it is there; returns its name."""
    name = topic_of(topic, group)
    with bus.Admin(address) as admin, suppress(TopicAlreadyExistsError):
        admin.create_topics([bus.NewTopic(name, num_partitions=1)])
    return name


class DeadLetters:
    """Writes letters, from one process. Its producer is made with the first letter."""

    def __init__(self, address: str | None, topic: str, group: str) -> None:
        self.topic = topic_of(topic, group)
        self._address = address
        self._producer: bus.Producer | None = None

    def write(self, record: Any, letter: Letter, *, may_be_there: bool) -> bool:
        """Appends a letter, and returns once it is on disk; False if it was there already.

        `may_be_there`: an earlier holder may have written it and died. Raises the bus's errors.
        """
        if may_be_there and self.holds(letter.source, letter.timestamp_ms):
            logger.warning("the dead letter of %s was written by a worker that died", letter.source)
            return False
        try:
            self.append(record, letter, None)
        except MessageSizeTooLargeError:
            self.append(record, letter, SHORT_TRACEBACK_CHARS)
        return True

    def append(self, record: Any, letter: Letter, traceback_chars: int | None) -> None:
        """Writes a letter, with the end of its traceback alone if so many are given."""
        told = letter.headers(traceback_chars=traceback_chars)
        self.send(record, [*original_headers(record.headers), *told])

    def send(self, record: Any, headers: list[Header]) -> None:
        """Appends a record's key and value with these headers; returns once it is on disk."""
        if self._producer is None:
            self._producer = bus.Producer(self._address, client_id="dead-letters", acks="all")
        future = self._producer.send(
            self.topic, record.value, record.key, headers, partition=_PARTITION
        )
        future.get(SEND_TIMEOUT_S)

    def holds(self, source: Source, timestamp_ms: int) -> bool:
        """True if there is a letter of that record, written after `timestamp_ms`."""
        place = bus.TopicPartition(self.topic, _PARTITION)
        with bus.Consumer(bootstrap_servers=self._address, client_id="dead-letters") as consumer:
            consumer.assign([place])
            found = consumer.offsets_for_times({place: timestamp_ms})[place]
            if found is None:
                return False
            consumer.seek(place, found.offset)
            return _is_among(consumer, place, source)

    def close(self) -> None:
        """Ends the producer, if there is one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()


def _is_among(consumer: bus.Consumer, place: bus.TopicPartition, source: Source) -> bool:
    end = consumer.end_offsets([place])[place]
    while consumer.position(place) < end:
        for record in consumer.poll(max_records=_POLL_RECORDS).get(place, []):
            with suppress(DeadLetterError):  # a letter of another making says nothing of ours
                if source_of(record.headers) == source:
                    return True
    return False
