"""What `groups/GROUP.acks` says: how far a share group is in each partition; read with suspicion.

    {"group": …, "group_id": …, "tables": {"TOPIC-PARTITION": [base, next, done, left]}}

`done` are [first, end) ranges, `left` are [offset, due, counts] of records that are not done: `due`
is nanoseconds since the epoch, 0 if it is not delayed. A keyed group has also "mode": "keyed" and
"lanes", how many there are, a table of it ends with `parked`, of [lane, offset], and `left` are
[offset, due, counts, lane]. What is not whole is not believed at all: a
record that is taken for done would never be worked on.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bus.assignment import Partition
from bus.errors import BusConfigurationError
from bus.group_ids import check_group_id, quote_group
from bus.native.core import LAYOUT
from bus.native.tuples import Acknowledged, Claimed
from bus.share_modes import Mode, named_mode

SUFFIX: Final = ".acks"
_WINDOW: Final = LAYOUT["BUS_ACK_WINDOW"]
_OVERTAKEN: Final = LAYOUT["BUS_ACK_OVERTAKEN"]
_COUNTS: Final = LAYOUT["BUS_ACK_COUNTS"]
_LANES: Final = LAYOUT["BUS_ACK_LANES"]
#: what else a keyed group's file says
_KEYED: Final = (("lanes", _LANES),)
_NUMBER_MAX: Final = (1 << 63) - 1


def acks_name(group: str) -> str:
    """File of a group's acknowledgements, in the directory of groups."""
    return quote_group(check_group_id(group)) + SUFFIX


def written(
    group: str, group_id: int, mode: Mode | None, found: Mapping[Partition, Acknowledged]
) -> dict[str, Any]:
    """What is to be kept of these tables."""
    keyed = mode == "keyed"
    tables = {f"{topic}-{number}": _plain(one, keyed) for (topic, number), one in found.items()}
    content = {"group": group, "group_id": group_id, "tables": tables}
    return {**content, "mode": mode, "lanes": _LANES} if keyed else content


def _plain(one: Acknowledged, keyed: bool) -> list[object]:
    now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    left = [
        [ack.offset, ack.due_ns and ack.due_ns - now_ns + wall_ns, ack.counts, ack.lane]
        for ack in one.left
    ]
    if keyed:
        return [one.base, one.next, one.done, left, one.parked]
    return [one.base, one.next, one.done, [ack[:3] for ack in left]]


def kept_mode(content: Mapping[str, Any]) -> Mode:
    """The mode of the group. Raises ValueError for one that there is not."""
    try:
        return named_mode(content.get("mode", "queue"))
    except BusConfigurationError as error:
        raise ValueError(str(error)) from None


def believed(
    content: Mapping[str, Any], group: str, group_id: int
) -> dict[Partition, Acknowledged]:
    """What was kept, by partition. Raises ValueError if any of it contradicts the rest."""
    keyed = kept_mode(content) == "keyed"
    for name, wanted in (("group", group), ("group_id", group_id), *_KEYED[:keyed]):
        if content.get(name) != wanted:
            raise ValueError(f"{name} is {content.get(name)!r}, not {wanted!r}")
    tables = content.get("tables")
    if not isinstance(tables, dict):
        raise ValueError("there are no tables in it")
    return dict(_table(name, table, keyed) for name, table in tables.items())


def _table(name: str, table: object, keyed: bool) -> tuple[Partition, Acknowledged]:
    topic, _, number = name.partition("-")
    if not (topic.isdecimal() and number.isdecimal()):
        raise ValueError(f"{name!r} is no partition")
    try:
        base, after, done, left, *parked = _list(table, 5 if keyed else 4)
        _number(base), _number(after)
        if not base <= after <= base + _WINDOW:
            raise ValueError(f"{base} to {after} is no window")
        ranges = _ranges(_list(done), base, after)
        entries = _entries(_list(left), base, after, keyed)
        if sum(one.offset < base for one in entries) > _OVERTAKEN:
            raise ValueError(f"more than {_OVERTAKEN} records are below {base}")
        waiting = _parked(_list(parked[0]), base) if keyed else []
    except ValueError as error:
        raise ValueError(f"partition {name}: {error}") from None
    return (int(topic), int(number)), Acknowledged(base, after, ranges, entries, waiting)


def _parked(parked: Sequence[object], base: int) -> list[tuple[int, int]]:
    found: dict[int, int] = {}
    for one in parked:
        lane, offset = _list(one, 2)
        if not 1 <= _number(lane) <= _LANES or lane in found or _number(offset) >= base:
            raise ValueError(f"lane {lane} waits from {offset}, which is not below {base}")
        found[lane] = offset
    return list(found.items())


def _ranges(done: Sequence[object], base: int, after: int) -> list[tuple[int, int]]:
    ranges, before = [], base
    for one in done:
        first, end = _list(one, 2)
        if not before <= _number(first) < _number(end) <= after:
            raise ValueError(f"done {first} to {end} is not between {before} and {after}")
        ranges.append((first, end))
        before = end
    return ranges


def _entries(left: Sequence[object], base: int, after: int, keyed: bool) -> list[Claimed]:
    now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    entries: dict[int, Claimed] = {}
    for one in left:
        offset, due_ns, counts, *lane = _list(one, 4 if keyed else 3)
        if _number(offset) >= after or offset in entries:
            raise ValueError(f"record {offset} is not one of those before {after}, or is twice")
        if any(_number(count) > 255 for count in _list(counts, _COUNTS)):
            raise ValueError(f"the counts of record {offset} are {counts}")
        if keyed and _number(lane[0]) > _LANES:
            raise ValueError(f"the lane of record {offset} is {lane[0]}")
        due = _number(due_ns) and min(max(due_ns - wall_ns + now_ns, 1), _NUMBER_MAX)
        entries[offset] = Claimed(offset, -1, False, due, counts, *lane)
    return list(entries.values())


def _list(value: object, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError(f"{value!r:.80} is no list of {length or 'entries'}")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise ValueError(f"{value!r:.80} is no number from 0 on")
    return value
