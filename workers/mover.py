"""Moves what is ready in the lanes of one scheduler: into a shorter lane, or to its topic.

    note in the commit's metadata: "these may be sent on" ─► send ─► all on disk ─► commit

Whoever has the lane after a death finds the note, and looks for those records where they would be:
each carries lane and offset of the record that it was made of. So none is sent on twice. After a
loss of power the last second of notes may be missing, and with it this proof.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import bus
from bus import ConsumerRecord, OffsetAndMetadata, TopicPartition
from bus.errors import BrokerNotRunningError, BusError, BusTimeoutError, ClosedError
from workers.dead_letters import DeadLetters, make_topic
from workers.errors import ScheduleError
from workers.lanes import (
    PLAN,
    TOPIC,
    Header,
    Mark,
    Now,
    Plan,
    lane_of,
    own_headers,
    source_header,
    source_of,
)
from workers.letters import Letter
from workers.retry import Counts

logger = logging.getLogger(__name__)

GROUP: Final = "workers.schedule"
SEND_TIMEOUT_S: Final = 60.0
#: A topic that takes nothing now is tried again after this; other tasks go on meanwhile.
BLOCKED_NS: Final = 1_000_000_000
#: A send waits so long for room, and holds up all other tasks for so long.
MAX_BLOCK_MS: Final = 200
#: The clock that finds those that were sent on may be of another process by so much.
_SLACK_MS: Final = 1000
_POLL_RECORDS: Final = 1000
_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Left:
    """What whoever had a lane before has left: records below `until` may be sent on already, from
    `since_ms` on; those of the offsets in `sent` are."""

    until: int = 0
    since_ms: int = 0
    sent: frozenset[int] = frozenset()


class Mover:
    """The sending half of a scheduler. `close` it."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self._lanes = bus.Producer(address, client_id="scheduler", acks="all")
        self._topics = bus.Producer(
            address, client_id="scheduler", acks="all", max_block_ms=MAX_BLOCK_MS
        )
        self._letters = DeadLetters(address, TOPIC, GROUP)

    def close(self) -> None:
        """Leaves the bus."""
        self._lanes.close()
        self._topics.close()
        self._letters.close()

    def move(
        self,
        consumer: bus.Consumer,
        lane: TopicPartition,
        records: Sequence[ConsumerRecord],
        left: Left,
        now: Now,
    ) -> None:
        """Sends records on that are ready, but for those that were sent on before; and commits.

        Raises the bus's errors; then the lane is to be taken over anew, as after a death.
        """
        first, after = records[0].offset, records[-1].offset + 1
        since_ms = left.since_ms if left.until > first else now.wall_ns // _NS_PER_MS
        mark = Mark(now.boot, now.offset_ns, max(after, left.until), since_ms)
        consumer.commit({lane: OffsetAndMetadata(first, mark.to_text())})
        futures = [self._send_on(one, now) for one in records if one.offset not in left.sent]
        for future in futures:
            if future is not None:
                future.get(SEND_TIMEOUT_S)
        if after >= left.until:
            mark = Mark(now.boot, now.offset_ns)
        consumer.commit({lane: OffsetAndMetadata(after, mark.to_text())})

    def _send_on(self, record: ConsumerRecord, now: Now) -> Any:
        """The future of the record that was made of this one; None if it is given up."""
        try:
            plan = Plan.of(record.headers)
        except ScheduleError as error:
            self._give_up(record, error)
            return None
        left_ns = plan.left_ns(now)
        if left_ns > 0:
            return self._into_lane(record, plan, lane_of(left_ns), now)
        headers: list[Header] = [
            *own_headers(record.headers),
            source_header(record.partition, record.offset),
        ]
        try:
            return self._topics.send(
                plan.topic, record.value, record.key, headers, partition=plan.partition
            )
        except (BusError, ValueError) as error:
            return self._refused(record, plan, error, now)

    def _refused(self, record: ConsumerRecord, plan: Plan, error: Exception, now: Now) -> Any:
        """The topic takes it later, or never."""
        if isinstance(error, BrokerNotRunningError | ClosedError):
            raise error
        if isinstance(error, BusTimeoutError):
            logger.warning("topic %s is full; a task waits for %s", plan.topic, error)
            return self._into_lane(record, plan, lane_of(BLOCKED_NS), now)
        self._give_up(record, error)
        return None

    def _into_lane(self, record: ConsumerRecord, plan: Plan, lane: int, now: Now) -> Any:
        headers: list[Header] = [
            *own_headers(record.headers),
            (PLAN, plan.in_lane(lane, now).to_bytes()),
            source_header(record.partition, record.offset),
        ]
        return self._lanes.send(TOPIC, record.value, record.key, headers, partition=lane)

    def _give_up(self, record: ConsumerRecord, error: Exception) -> None:
        """The task can never be brought to its topic: it becomes a dead letter."""
        make_topic(self._address, TOPIC, GROUP)
        letter = Letter.of(
            record,
            GROUP,
            f"cannot be scheduled: {error}",
            deliveries=1,
            counts=Counts(),
            error=error,
        )
        self._letters.write(record, letter, may_be_there=True)
        logger.error(
            "scheduled task %d of lane %d is given up: %s; see %s",
            *(record.offset, record.partition, error, self._letters.topic),
        )

    # ------------------------------------------------------------------ after a death

    def left(self, lane: int, first: int, mark: Mark) -> Left:
        """What is left of whoever had the lane before and committed `first` with that note."""
        if mark.until <= first:
            return Left()
        with bus.Consumer(bootstrap_servers=self._address, client_id="scheduler") as consumer:
            topics = self._targets(consumer, TopicPartition(TOPIC, lane), first, mark.until)
            places = [
                TopicPartition(topic, number)
                for topic in topics
                for number in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            sources = [
                source_of(record.headers)
                for record in _since(consumer, places, mark.since_ms - _SLACK_MS)
            ]
        offsets = {source[1] for source in sources if source is not None and source[0] == lane}
        known = frozenset(offset for offset in offsets if first <= offset < mark.until)
        if known:
            logger.warning("%d scheduled tasks were sent on by a scheduler that ended", len(known))
        return Left(mark.until, mark.since_ms, known)

    def _targets(
        self, consumer: bus.Consumer, lane: TopicPartition, first: int, until: int
    ) -> list[str]:
        """Where the records of a lane may have gone."""
        topics = {TOPIC}
        consumer.assign([lane])
        consumer.seek(lane, first)
        while consumer.position(lane) < until:
            for record in consumer.poll(1000, max_records=_POLL_RECORDS).get(lane, []):
                try:
                    topics.add(Plan.of(record.headers).topic)
                except ScheduleError as error:
                    logger.debug("it has gone nowhere: %s", error)
        return sorted(topics)


def _since(
    consumer: bus.Consumer, places: Sequence[TopicPartition], timestamp_ms: int
) -> Iterable[ConsumerRecord]:
    """All records of these partitions from that time on."""
    consumer.assign(places)
    starts = consumer.offsets_for_times(dict.fromkeys(places, timestamp_ms))
    ends = consumer.end_offsets(places)
    for place in places:
        found = starts[place]
        consumer.seek(place, ends[place] if found is None else found.offset)
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(1000, max_records=_POLL_RECORDS).values():
            yield from records
