"""Records of any range, worked on once more: in their group, or in this process alone.

    workers.replay("orders", group="shop", start=datetime(2026, 11, 26, 5), only="dead")
    workers.replay_here(handle, "orders", 0, 42)        # under a debugger, say

In the group, a record is appended to its partition again, at the end, with a header that says
which one it was (`replay.of`), and with fresh counts: whoever works in the group takes it as any
new record, and in the log nothing is taken back. A group of its own would start with no committed
offset, and would work on the whole topic.

What the group has not passed yet is not replayed, for it is still to be worked on. Other groups
of the topic would see the records again, too, so that is refused unless it is meant.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import bus
from bus.errors import GroupIdNotFoundError, UnknownTopicOrPartitionError
from workers.attempts import Outcome
from workers.errors import DeadLetterError, ReplayError
from workers.flight_moves import FlightMoves
from workers.letters import Header, Source, original_headers, source_of, topic_of
from workers.ranges import Position, Span, records_in, spans

Only = Literal["all", "dead"]
#: Says of which record ("topic:partition:offset") another one is a replay.
REPLAY_OF: Final = "replay.of"
#: Records that are sent before they are waited for.
BATCH: Final = 500
SEND_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """What `replay` did: how many records it sent; `left` ones are still to be worked on."""

    sent: int
    left: int


def replay(
    topic: str,
    *,
    group: str,
    start: Position | None = None,
    end: Position | None = None,
    partition: int | None = None,
    only: Only = "all",
    to_topic: str | None = None,
    beside_others: bool = False,
    bootstrap_servers: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Replayed:
    """Sends records of a topic again that the group has passed, for it to work on them once more.

    start, end: offsets (of one partition) or times, the end not included; None: from the first one
        there is, up to the last one. partition: None means all of them.
    only: "dead" for those that were given up, as their dead letters have them; also of them those
        that were redriven.
    to_topic: send to this topic instead. beside_others: other groups of the topic may see the
        records again. progress: called with the count of records that were sent.

    Raises ReplayError if that would reach other groups, or for a range that makes no sense, and
    the bus's errors. What was sent before an error stays sent; the flight record, if there is one,
    says what that was.
    """
    if only not in ("all", "dead"):
        raise ReplayError(f'only must be "all" or "dead", not {only!r}')
    refuse = not beside_others and to_topic in (None, topic)
    passed = _may_replay(bootstrap_servers, topic, group, refuse)
    with ExitStack() as held:
        consumer = held.enter_context(
            bus.Consumer(bootstrap_servers=bootstrap_servers, client_id="replay")
        )
        producer = held.enter_context(
            bus.Producer(bootstrap_servers, client_id="replay", acks="all")
        )
        found = spans(consumer, topic, start, end, partition)
        within = [span.up_to(passed.get(span.where, 0)) for span in found]
        left = sum(span.count for span in found) - sum(span.count for span in within)
        moves = FlightMoves(bootstrap_servers, producer, Outcome.REPLAYED)
        run = _Run(producer, moves, group, to_topic, progress)
        if only == "all":
            for span in within:
                run.send(_originals(consumer, span))
        else:
            run.send(_dead(consumer, topic_of(topic, group), within))
        return Replayed(run.sent, left if only == "all" else 0)


def _may_replay(
    address: str | None, topic: str, group: str, refuse_others: bool
) -> dict[bus.TopicPartition, int]:
    """Up to where the group has passed the topic. Raises ReplayError if it is not to be touched."""
    with bus.Admin(address) as admin:
        if topic not in admin.list_topics():
            raise UnknownTopicOrPartitionError(f"topic {topic!r} does not exist")
        if refuse_others:
            _refuse_others(admin, topic, group)
        return _passed(admin, group, topic)


#: A record to be sent, and which one it is.
_Chosen = tuple[Source, Any]


def _originals(consumer: bus.Consumer, span: Span) -> Iterator[_Chosen]:
    for record in records_in(consumer, span):
        yield Source(record.topic, record.partition, record.offset), record


def _dead(consumer: bus.Consumer, letters: str, within: Sequence[Span]) -> Iterator[_Chosen]:
    """The dead letters of records in those spans: each record once, however often it died."""
    seen: set[Source] = set()
    try:
        found = spans(consumer, letters, None, None, None)
    except UnknownTopicOrPartitionError:
        return  # nothing was ever given up
    for span in found:
        for record in records_in(consumer, span):
            with suppress(DeadLetterError):  # a letter of another making says nothing of ours
                source = source_of(record.headers)
                if source not in seen and any(one.holds(source) for one in within):
                    seen.add(source)
                    yield source, record


class _Run:
    def __init__(
        self,
        producer: bus.Producer,
        moves: FlightMoves,
        group: str,
        to_topic: str | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._producer = producer
        self._moves = moves
        self._group = group
        self._to_topic = to_topic
        self._progress = progress
        self.sent = 0

    def send(self, chosen: Iterator[_Chosen]) -> None:
        """Sends them in their order."""
        waiting: list[tuple[Source, bus.RecordFuture]] = []
        for source, record in chosen:
            waiting.append((source, self._send(source, record)))
            if len(waiting) >= BATCH:
                self._wait(waiting)
        self._wait(waiting)

    def _send(self, source: Source, record: Any) -> bus.RecordFuture:
        # its key decides on the partition only if it goes elsewhere
        stays = self._to_topic in (None, source.topic)
        return self._producer.send(
            self._to_topic or source.topic,
            record.value,
            record.key,
            _headers(source, record.headers),
            partition=source.partition if stays else None,
        )

    def _wait(self, waiting: list[tuple[Source, bus.RecordFuture]]) -> None:
        for source, future in waiting:
            self._moves.note(self._group, source, future.get(SEND_TIMEOUT_S))
            self.sent += 1
        waiting.clear()
        self._moves.send()
        if self._progress is not None:
            self._progress(self.sent)


def _headers(source: Source, headers: Sequence[Header]) -> list[Header]:
    kept = [header for header in original_headers(headers) if header[0] != REPLAY_OF]
    return [*kept, (REPLAY_OF, str(source).encode())]


def _reads(admin: bus.Admin, group: str, topic: str) -> bool:
    return bool(_passed(admin, group, topic))


def _passed(admin: bus.Admin, group: str, topic: str) -> dict[bus.TopicPartition, int]:
    """Up to where the group is done, in each partition."""
    with suppress(GroupIdNotFoundError):  # nobody has worked in it yet
        committed = admin.list_group_offsets(group).get(group, {})
        return {where: one.offset for where, one in committed.items() if where.topic == topic}
    return {}


def _refuse_others(admin: bus.Admin, topic: str, group: str) -> None:
    names = {one["group_id"] for one in admin.list_groups()} - {group}
    others = sorted(name for name in names if _reads(admin, name, topic))
    if others:
        raise ReplayError(
            f"{', '.join(map(repr, others))} read {topic!r} as well, and would see the records"
            " again; send them to another topic (to_topic, --to-topic) for a pool of its own, or"
            " say that others may see them (beside_others=True, --beside-others)"
        )
