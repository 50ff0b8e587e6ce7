"""A history as values: what was sent, given, committed, killed, and what is in the log at the end.

Times are in ns on one clock. A record is named by (producer, sequence), a place is (topic,
partition, offset).
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

Name = tuple[int, int]
Where = tuple[str, int]

STOP: Final = "stop"
REBOOT: Final = "reboot"
AT_THE_END: Final = "at the end"
AFTER_A_STOP: Final = "after a stop"
AFTER_A_POWER_CUT: Final = "after a power cut"
_HANDLERS: Final = {"open": "_opened"}


@dataclass(slots=True)
class Sent:
    """A record that a producer was about to send, and what it was told."""

    topic: str
    acks: int | str
    invoked: int
    stored: bool = False
    durable: bool = False
    refused: bool = False
    partition: int = -1
    offset: int = -1

    @property
    def is_acknowledged(self) -> bool:
        """Its producer was told what `acks` asked for, and that was something."""
        return self.durable or (self.stored and self.acks == 1)


@dataclass(frozen=True, slots=True)
class Run:
    """Records that a reader was given at once, with offsets that follow each other."""

    reader: str
    topic: str
    partition: int
    first: int
    names: tuple[Name | None, ...]
    asked: int
    got: int
    announced_before: int = 0
    announced_after: int = 0
    #: how often the reader had jumped by then
    seeks: int = 0

    @property
    def end(self) -> int:
        """The offset behind the last one."""
        return self.first + len(self.names)

    @property
    def where(self) -> Where:
        """Its partition."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that was confirmed, or a look at what is committed (then `end` is known)."""

    group: str
    where: Where
    offset: int
    asked: int
    done: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """Memory was lost by design: the bus was stopped, or everything died with its memory."""

    kind: str
    began: int
    ended: int

    def takes(self, topic: "Topic") -> bool:
        """Whether records of the topic that are not durable go with it."""
        return self.kind == REBOOT or topic.is_memory


@dataclass(slots=True)
class Topic:
    """What a topic promises."""

    is_memory: bool = False
    drops: bool = False
    #: retention or delete_records may take records that are below the log start
    shrinks: bool = False
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class FinalLog:
    """A partition as it was read from its log start to its end when all was calm."""

    which: str
    where: Where
    start: int
    end: int
    names: dict[int, Name | None]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: its kind, what it is, and whose events tell about it."""

    kind: str
    text: str
    where: Where | None = None
    offset: int | None = None
    names: tuple[Name, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(slots=True)
class History:
    """All of one round."""

    topics: dict[str, Topic] = field(default_factory=dict)
    sent: dict[Name, Sent] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    groups: dict[str, str | None] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    samples: list[Commit] = field(default_factory=list)
    starts: dict[Where, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    #: jumps of a reader so far
    seeks: Counter[str] = field(default_factory=Counter)
    #: reader → when it ended without having committed what it was given
    deaths: dict[str, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    finals: list[FinalLog] = field(default_factory=list)
    #: (who, what, class, text)
    errors: list[tuple[str, str, str, str]] = field(default_factory=list)
    #: (when, role, resident bytes, descriptors)
    memory: list[tuple[int, str, int, int]] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)
    #: when actions of the nemesis began
    struck: list[int] = field(default_factory=list)
    #: (invoked, done) of acknowledged sends
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    _open: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def topic(self, name: str) -> Topic:
        """What is known of a topic."""
        return self.topics.setdefault(name, Topic())

    def slowest_recovery_s(self) -> float:
        """Longest time from an action of the nemesis to the next acknowledgement of a send that
        began after it, in seconds; of several actions without one between, from the first."""
        done: list[int] = []  # by invocation: the earliest end of this and all later sends
        sends = sorted(self.acknowledged)
        for _, end in reversed(sends):
            done.append(min(end, done[-1]) if done else end)
        done.reverse()
        slowest = 0
        for began in self.struck:
            at = bisect_left(sends, (began, 0))
            if at < len(sends):
                slowest = max(slowest, done[at] - began)
        return slowest / 1e9

    @classmethod
    def of(cls, events: Iterable[list[Any]]) -> "History":
        """From the lines of all diaries. A reader of a killed worker counts as dead."""
        history = cls()
        killed: list[tuple[str, int]] = []
        for kind, when, *words in events:
            if kind == "killed":
                killed.append((words[0], words[1]))
            else:
                getattr(history, _HANDLERS.get(kind, f"_{kind}"))(when, *words)
        history._bury(killed)
        return history

    def _bury(self, killed: list[tuple[str, int]]) -> None:
        """The reader of a worker that was alive when the worker was killed has died with it."""
        last: dict[str, list[int]] = defaultdict(list)
        for worker, when in killed:
            last[worker].append(when)
        for worker, readers in self._open.items():
            for reader in readers:
                times = last.get(worker)
                self.deaths[reader] = times[0] if times else 0
        self._open.clear()

    # ------------------------------------------------------------------- one for each event

    def _send(self, when: int, who: int, acks: int | str, topic: str, first: int, n: int) -> None:
        for sequence in range(first, first + n):
            self.sent[who, sequence] = Sent(topic, acks, when)

    def _stored(self, when: int, who: int, rows: list[list[int]]) -> None:
        for sequence, partition, offset in rows:
            sent = self.sent[who, sequence]
            sent.stored, sent.partition, sent.offset = True, partition, offset
        first = self.sent[who, rows[0][0]]
        if first.acks != "all":
            self.acknowledged.append((first.invoked, when))

    def _durable(self, when: int, who: int, sequences: list[int]) -> None:
        for sequence in sequences:
            self.sent[who, sequence].durable = True
        self.acknowledged.append((self.sent[who, sequences[0]].invoked, when))

    def _refused(self, when: int, who: int, sequences: list[int], error: str) -> None:
        for sequence in sequences:
            self.sent[who, sequence].refused = True
        self.actions[f"refused: {error}"] += len(sequences)

    def _opened(self, when: int, reader: str, group: str | None) -> None:
        self.groups[reader] = group
        self._open[reader.rpartition(".")[0]].append(reader)

    def _got(self, when: int, reader: str, asked: int, run: list[Any], *announced: int) -> None:
        topic, partition, first, found = run
        names = tuple(None if one is None else (one[0], one[1]) for one in found)
        self.runs.append(
            Run(
                *(reader, topic, partition, first, names, asked, when),
                *announced,
                seeks=self.seeks[reader],
            )
        )

    def _start(self, when: int, topic: str, partition: int, start: int) -> None:
        self.starts[topic, partition].append((when, start))

    def _seek(self, when: int, reader: str, topic: str, partition: int, offset: int) -> None:
        self.seeks[reader] += 1

    def _commit(
        self, when: int, reader: str, group: str, asked: int, rows: list[Any], error: str
    ) -> None:
        if error:
            self.deaths[reader] = min(asked, self.deaths.get(reader, asked))
            return
        for topic, partition, offset in rows:
            self.commits.append(Commit(group, (topic, partition), offset, asked, when))

    def _closed(self, when: int, reader: str, clean: bool) -> None:
        self._open[reader.rpartition(".")[0]].remove(reader)
        if not clean:
            self.deaths[reader] = min(when, self.deaths.get(reader, when))

    def _sample(
        self, when: int, group: str, topic: str, number: int, offset: int, end: int, asked: int
    ) -> None:
        self.samples.append(Commit(group, (topic, number), offset, asked, when, end))

    def _memory(
        self, when: int, role: str, pid: int, resident: int, descriptors: int, life: float
    ) -> None:
        self.memory.append((when, role, resident, descriptors))

    def _error(self, when: int, who: str, what: str, name: str, text: str) -> None:
        self.errors.append((who, what, name, text))

    def _action(self, when: int, name: str, began: int, details: Any) -> None:
        self.actions[name] += 1
        self.struck.append(began)

    def _loss(self, when: int, kind: str, began: int) -> None:
        self.losses.append(Loss(kind, began, when))

    def _topic(self, when: int, name: str, config: dict[str, Any]) -> None:
        topic = self.topic(name)
        topic.is_memory = config.get("durability") == "memory"
        topic.drops = config.get("overflow") == "drop"
        topic.shrinks = bool(config.get("shrinks")) or topic.is_memory
        topic.shrinks |= int(config.get("retention.bytes", -1)) >= 0

    def _deleted(self, when: int, name: str) -> None:
        self.topic(name).deleted = True

    def _final(
        self, when: int, which: str, topic: str, number: int, start: int, end: int, runs: list[Any]
    ) -> None:
        names = {
            first + at: None if one is None else (one[0], one[1])
            for first, found in runs
            for at, one in enumerate(found)
        }
        self.finals.append(FinalLog(which, (topic, number), start, end, names))
