"""What a bus has promised up to a moment, and what it holds after a power loss, compared.

A mark is put into the recorded sequence when a promise is made: the high watermark has passed a
record (every future of acks="all" below it succeeds), a topic's creation has returned, a log start
has been moved, the broker has synced a group's offsets. Folding the marks up to a cut gives what
must hold after it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: id of the topic, number of the partition
Key = tuple[int, int]


class Appended(NamedTuple):
    key: Key
    offset: int
    value: bytes


class Watermark(NamedTuple):
    key: Key
    offset: int


class Survived(NamedTuple):
    """A log was rebuilt from the disk with these records: whoever reads now sees them as durable.

    What is not among them is gone, and will not come back. `end` is where it goes on.
    """

    key: Key
    offsets: frozenset[int]
    end: int


class StartAsked(NamedTuple):
    """From here on the log may start there."""

    key: Key
    offset: int


class StartMoved(NamedTuple):
    key: Key
    offset: int


class TopicMade(NamedTuple):
    """A creation, or a growth, has returned."""

    name: str
    id: int
    partitions: int


class TopicLeaving(NamedTuple):
    """Its deletion was asked for: it may be there or not."""

    name: str


class TopicDeleted(NamedTuple):
    name: str


class GroupMade(NamedTuple):
    name: str


class Committed(NamedTuple):
    group: str
    key: Key
    offset: int


class Synced(NamedTuple):
    """A sync of the broker has returned; `offsets` are the commits made before it began."""

    group: str
    offsets: Mapping[Key, int]


@dataclass
class Found:
    """What is there after a power loss."""

    topics: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: offset and value of every record that can be read, in the order of reading
    records: dict[Key, list[tuple[int, bytes]]] = field(default_factory=dict)
    starts: dict[Key, int] = field(default_factory=dict)
    ends: dict[Key, int] = field(default_factory=dict)
    groups: dict[str, dict[Key, int]] = field(default_factory=dict)

    def survivors(self) -> list[Survived]:
        """What each log was rebuilt with: from now on it is seen as durable."""
        return [
            Survived(key, frozenset(offset for offset, _ in records), self.ends[key])
            for key, records in self.records.items()
        ]


@dataclass
class Promises:
    """What must hold, and what may."""

    appended: dict[Key, dict[int, bytes]] = field(default_factory=dict)
    #: the first offset that was never given out
    fresh: dict[Key, int] = field(default_factory=dict)
    durable: dict[Key, int] = field(default_factory=dict)
    starts: dict[Key, int] = field(default_factory=dict)
    asked: dict[Key, int] = field(default_factory=dict)
    topics: dict[str, tuple[int, int]] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    committed: dict[tuple[str, Key], set[int]] = field(default_factory=dict)
    synced: dict[tuple[str, Key], int] = field(default_factory=dict)

    def fold(self, marks: Iterable[object]) -> "Promises":
        """Take these marks into the account; returns itself."""
        for mark in marks:
            self._take(mark)
        return self

    def _take(self, mark: object) -> None:
        match mark:
            case Appended(key, offset, value):
                self.appended.setdefault(key, {})[offset] = value
                self.fresh[key] = offset + 1
            case Survived(key, offsets, end):
                records = self.appended.get(key, {})
                self.appended[key] = {one: records[one] for one in offsets if one in records}
                self.durable[key] = end
            case Watermark(key, offset):
                self.durable[key] = offset
            case StartAsked(key, offset):
                self.asked[key] = offset
            case StartMoved(key, offset):
                self.starts[key] = offset
            case TopicMade(name, number, partitions):
                self.topics[name] = (number, partitions)
                self.leaving.discard(name)
            case TopicLeaving(name):
                self.leaving.add(name)
            case TopicDeleted(name):
                self.leaving.discard(name)
                self.deleted.add(self.topics.pop(name)[0])
            case GroupMade(name):
                self.groups.add(name)
            case Committed(group, key, offset):
                self.committed.setdefault((group, key), set()).add(offset)
            case Synced(group, offsets):
                self.synced.update({(group, key): offset for key, offset in offsets.items()})

    def copy(self) -> "Promises":
        """An account that goes on by itself."""
        return Promises(
            {key: dict(records) for key, records in self.appended.items()},
            dict(self.fresh),
            dict(self.durable),
            dict(self.starts),
            dict(self.asked),
            dict(self.topics),
            set(self.leaving),
            set(self.deleted),
            set(self.groups),
            {key: set(offsets) for key, offsets in self.committed.items()},
            dict(self.synced),
        )

    # ------------------------------------------------------------------------------ comparing

    def broken_by(self, found: Found) -> list[str]:
        """Every promise that does not hold, as a sentence."""
        return [
            *self._topics_broken(found),
            *(wrong for key in sorted(found.records) for wrong in self._records_broken(found, key)),
            *self._commits_broken(found),
        ]

    def _topics_broken(self, found: Found) -> Iterable[str]:
        for name, (number, partitions) in self.topics.items():
            if name in self.leaving:
                continue
            there = found.topics.get(name)
            if there is None or there[0] != number or there[1] < partitions:
                yield f"topic {name} {number} with {partitions} partitions: found {there}"
        for name, (number, _) in found.topics.items():
            if number in self.deleted:
                yield f"topic {name} {number} was deleted, and is there again"

    def _records_broken(self, found: Found, key: Key) -> Iterable[str]:
        records = found.records[key]
        offsets = [offset for offset, _ in records]
        start, end = found.starts[key], found.ends[key]
        appended = self.appended.get(key, {})
        if offsets != sorted(set(offsets)):
            yield f"{key}: offsets are not in order: {offsets}"
        for offset, value in records:
            if appended.get(offset) != value:
                what = "has other bytes" if offset in appended else "was never appended"
                yield f"{key}: offset {offset} {what}"
        if start < self.starts.get(key, 0):
            yield f"{key}: the log start went back from {self.starts[key]} to {start}"
        watermark = self.durable.get(key, 0)
        # what may be gone: below a start that was asked for
        first = max(self.starts.get(key, 0), min(start, self.asked.get(key, 0)))
        expected = {offset for offset in appended if first <= offset < watermark}
        if lost := sorted(expected - set(offsets)):
            yield f"{key}: {len(lost)} acknowledged records lost, {lost[:5]} (start {start})"
        if end < max(watermark, fresh := self.fresh.get(key, 0)):
            yield f"{key}: the log goes on at {end}, offsets below {fresh} were given out"

    def _commits_broken(self, found: Found) -> Iterable[str]:
        for name in self.groups - set(found.groups):
            yield f"group {name} is gone"
        for (group, key), offset in self.synced.items():
            now = found.groups.get(group, {}).get(key)
            if now is None or now < offset:
                yield f"group {group}, {key}: commit of {offset} was synced, found {now}"
        for group, offsets in found.groups.items():
            for key, offset in offsets.items():
                if offset not in self.committed.get((group, key), set()):
                    yield f"group {group}, {key}: offset {offset} was never committed"
                if key in found.ends and offset > found.ends[key]:
                    yield f"group {group}, {key}: {offset} is beyond the end {found.ends[key]}"
