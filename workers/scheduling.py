"""Tasks for later: records that reach their topic when they are due, and not before.

    workers.schedule("mails", b"…", delay_s=3600)
    workers.schedule("mails", b"…", at=datetime(2030, 1, 1, tzinfo=UTC))

A task is a record of the topic `workers.schedule` until it is due, however many there are: it costs
log space, and no memory. `workers.Scheduler` brings them to their topics; without one that runs,
they wait.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import bus
from bus.errors import TopicAlreadyExistsError
from workers.errors import ScheduleError
from workers.lanes import AT_MAX_NS, LANES, PLAN, TOPIC, Header, Now, Plan, lane_of

SEND_TIMEOUT_S: Final = 60.0
_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: What waits is never deleted by age or size; what was brought on is, by the scheduler.
_CONFIGS: Final = {
    "retention.ms": -1,
    "retention.bytes": -1,
    "segment.bytes": 4 << 20,
    "hot.bytes": 16 << 20,
}


def make_topic(address: Any) -> None:
    """Makes the topic of what waits, unless it is there."""
    with bus.Admin(address) as admin, suppress(TopicAlreadyExistsError):
        admin.create_topics([bus.NewTopic(TOPIC, num_partitions=LANES, topic_configs=_CONFIGS)])


class Schedule:
    """Schedules many tasks. A context manager, for one thread at a time.

    bootstrap_servers: directory of the bus; None is $BUS_DIR or the user's own bus.
    """

    def __init__(self, bootstrap_servers: Any = None) -> None:
        make_topic(bootstrap_servers)
        self._producer = bus.Producer(bootstrap_servers, client_id="schedule", acks="all")

    def add(
        self,
        topic: str,
        value: Any,
        *,
        delay_s: float | None = None,
        at: datetime | None = None,
        key: Any = None,
        headers: Sequence[Header] = (),
        partition: int | None = None,
    ) -> Any:
        """Schedules a task; returns the future of its record, which is done once it is on disk.

        See `schedule`.
        """
        now = Now.read()
        plan = _plan(topic, partition, delay_s, at, now)
        left_ns = plan.left_ns(now)
        if left_ns <= 0:
            return self._producer.send(topic, value, key, list(headers), partition=partition)
        lane = lane_of(left_ns)
        told = [*headers, (PLAN, plan.in_lane(lane, now).to_bytes())]
        return self._producer.send(TOPIC, value, key, told, partition=lane)

    def flush(self) -> None:
        """Waits until all tasks are on disk. Raises the bus's errors."""
        self._producer.flush(SEND_TIMEOUT_S)

    def close(self) -> None:
        """Waits until all tasks are on disk, and leaves the bus. Idempotent."""
        self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def schedule(
    topic: str,
    value: Any,
    *,
    delay_s: float | None = None,
    at: datetime | None = None,
    key: Any = None,
    headers: Sequence[Header] = (),
    partition: int | None = None,
    bootstrap_servers: Any = None,
) -> None:
    """The record reaches `topic` after `delay_s` seconds, or `at` a moment; it is on disk then.

    Once, not before, and a few hundredths of a second later, if a Scheduler runs. A delay is by a
    clock that nobody can set; `at` needs a time zone, and follows the wall clock. What is due
    already is sent at once. For many tasks use `Schedule`.

    Raises ScheduleError for a time that makes no sense, and the bus's errors.
    """
    with Schedule(bootstrap_servers) as opened:
        future = opened.add(
            topic,
            value,
            delay_s=delay_s,
            at=at,
            key=key,
            headers=headers,
            partition=partition,
        )
        future.get(SEND_TIMEOUT_S)


def _plan(
    topic: str, partition: int | None, delay_s: float | None, at: datetime | None, now: Now
) -> Plan:
    if (delay_s is None) == (at is None):
        raise ScheduleError("give delay_s or at, one of them")
    if topic == TOPIC:
        raise ScheduleError(f"{TOPIC} is where tasks wait; schedule them for another topic")
    if at is not None:
        if at.tzinfo is None:
            raise ScheduleError(f"at={at} has no time zone; use datetime.now(UTC) and the like")
        return Plan.at(topic, partition, _wall_ns(at), now)
    assert delay_s is not None
    if not 0 <= delay_s < (AT_MAX_NS - now.wall_ns) / _NS:
        raise ScheduleError(f"delay_s must be 0 or more, and end before 2116, not {delay_s!r}")
    return Plan.after(topic, partition, int(delay_s * _NS), now)


def _wall_ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
