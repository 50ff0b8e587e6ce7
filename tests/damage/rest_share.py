"""A share group of a bus at rest: what it had done, and what of it comes again.

Whatever was not acknowledged has to come to the next member. What was may come again, if somebody
was told of the damage: work is done twice rather than never.
"""

import json
from pathlib import Path
from typing import Protocol

import bus
from bus.errors import BusError, CorruptRecordError
from bus.structs import TopicPartition
from tests.waiting import eventually

GROUP = "s"
TOPIC = "other"
#: Offsets that were acknowledged: a gap behind the first one, so that the commit does not say it.
DONE = frozenset({0, 2, 3})
_DEADLINE_MS = 30_000


class _Trial(Protocol):
    gaps: list[tuple[TopicPartition, int, int]]
    commits_lost: int
    again: int
    wrong: list[str]


def work(path: Path, end: int) -> None:
    """A member takes all `end` records, acknowledges some, gives up none, and leaves."""
    with bus.ShareConsumer(TOPIC, bootstrap_servers=path, group_id=GROUP) as member:
        offsets = {record.offset for record in _take(member, end, _DEADLINE_MS)}
    assert offsets == set(range(end)), offsets
    eventually(lambda: _is_kept(path), what="kept acknowledgements")


def _take(member: "bus.ShareConsumer", end: int, timeout_ms: int) -> list[bus.ConsumerRecord]:
    taken: list[bus.ConsumerRecord] = []
    while len(taken) < end:
        records = [one for some in member.poll(timeout_ms).values() for one in some]
        assert records, f"only {taken} came"
        taken += records
    for record in taken:
        if record.offset in DONE:
            member.ack(record)
    return taken


def _is_kept(path: Path) -> bool:
    """The file says so, and so does its copy."""
    for name in (f"{GROUP}.acks", f"{GROUP}.acks.copy"):
        file = path / "groups" / name
        if not file.exists() or not _says_done(json.loads(file.read_text())):
            return False
    return True


def _says_done(content: dict[str, object]) -> bool:
    return f"[{min(DONE - {0})}, " in json.dumps(content)


def look_for_work(path: Path, end: int, outcome: _Trial) -> None:
    """Claim until everything that was not acknowledged has come, or was reported as missing."""
    missing = set(range(end)) - DONE
    try:
        with bus.ShareConsumer(TOPIC, bootstrap_servers=path, group_id=GROUP) as member:
            while missing:
                _claim(member, missing, outcome)
    except BusError:
        outcome.commits_lost += 1  # it cannot be used before a repair, and says so


def _claim(member: "bus.ShareConsumer", missing: set[int], outcome: _Trial) -> None:
    """One poll. A record that nobody can read is given up with an error, and counts as told."""
    try:
        records = [one for some in member.poll(_DEADLINE_MS).values() for one in some]
    except CorruptRecordError:
        gone = [range(first, end) for at, first, end in outcome.gaps if at.topic == TOPIC]
        if not any(missing.intersection(one) for one in gone):
            raise
        missing.difference_update(*gone)
        return
    if not records:
        outcome.wrong.append(f"share group {GROUP}: {sorted(missing)} do not come again")
        missing.clear()
    for record in records:
        outcome.again += record.offset in DONE
        missing.discard(record.offset)
        member.ack(record)
