"""Hand-made histories for the tests of the judge: each call is one event, a millisecond later."""

from collections.abc import Iterable
from typing import Any

from tests.soak.analysis import History, judge

MS = 1_000_000
TOPIC = "t"


class Story:
    """Tells a history event by event; `kinds` are the violations that the judge finds in it."""

    def __init__(self, **config: Any) -> None:
        self._events: list[list[Any]] = []
        self.now = 1000 * MS
        self.tell("topic", TOPIC, config)

    def tell(self, kind: str, *words: Any) -> int:
        """One event; its time."""
        self.now += MS
        self._events.append([kind, self.now, *words])
        return self.now

    def send(self, count: int, *, producer: int = 1, first: int = 0, acks: Any = 1) -> None:
        """So many records are about to be sent."""
        self.tell("send", producer, acks, TOPIC, first, count)

    def store(self, *places: int, producer: int = 1, first: int = 0) -> None:
        """They were stored at these offsets of partition 0."""
        rows = [[first + at, 0, offset] for at, offset in enumerate(places)]
        self.tell("stored", producer, rows)

    def sent(self, count: int, *, acks: Any = 1) -> None:
        """Records 0 to `count` of producer 1 are stored at offsets 0 to `count`."""
        self.send(count, acks=acks)
        self.store(*range(count))
        if acks == "all":
            self.tell("durable", 1, list(range(count)))

    def open(self, reader: str, group: str | None = "g") -> None:
        """A reader comes."""
        self.tell("open", reader, group)

    def got(self, reader: str, first: int, names: Iterable[Any], *, announced: int = 0) -> None:
        """A reader is given records, by numbers of producer 1 or as [producer, sequence]."""
        asked = self.now
        found = [[1, one] if isinstance(one, int) else one for one in names]
        self.tell("got", reader, asked, [TOPIC, 0, first, found], 0, announced)

    def commit(self, reader: str, offset: int, *, error: str = "") -> None:
        """A reader commits."""
        self.tell("commit", reader, "g", self.now, [[TOPIC, 0, offset]], error)

    def sample(self, offset: int, end: int) -> None:
        """The observer looks."""
        self.tell("sample", "g", TOPIC, 0, offset, end, self.now)

    def final(self, start: int, names: Iterable[Any], *, which: str = "at the end") -> None:
        """The log is read: numbers of producer 1, [producer, sequence], None for foreign bytes."""
        found = [[1, one] if isinstance(one, int) else one for one in names]
        self.tell("final", which, TOPIC, 0, start, start + len(found), [[start, found]])

    def closed(self, *readers: str) -> None:
        """Readers leave, all being well."""
        for reader in readers:
            self.tell("closed", reader, True)

    @property
    def history(self) -> History:
        """All that was told."""
        return History.of(self._events)

    @property
    def kinds(self) -> set[str]:
        """What is wrong with it."""
        return {one.kind for one in judge(self.history)}
