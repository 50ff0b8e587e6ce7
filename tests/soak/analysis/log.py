"""What the log holds, against what producers were told and all readers have seen.

lost        acknowledged, and neither in the log nor below its start
duplicate   one record at two places
phantom     bytes that nobody sent
conflict    two records at one offset, whoever saw them, hot or durable, before or after
moved       a record elsewhere than its producer was told
refused     `send` raised, and the record is there all the same
reordered   records of one producer against its order
hole        an offset without a record between two others
shrunk      the log start has moved in a topic from which nothing may be deleted
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from bus.state import OFFSET_STEP
from tests.soak.analysis.facts import (
    AFTER_A_POWER_CUT,
    AT_THE_END,
    FinalLog,
    History,
    Name,
    Sent,
    Violation,
    Where,
)


@dataclass(slots=True)
class Seen:
    """Every offset that anybody saw, over the whole round."""

    names: dict[Where, dict[int, Name]] = field(default_factory=dict)
    places: dict[Name, tuple[Where, int]] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def add(self, who: str, where: Where, offset: int, name: Name | None) -> None:
        """One record, as `who` saw it."""
        if name is None:
            self._wrong("phantom", f"{who} read bytes that nobody sent", where, offset)
            return
        known = self.names.setdefault(where, {}).setdefault(offset, name)
        if known != name:
            text = f"{who} saw record {name} where {known} had been seen"
            self._wrong("conflict", text, where, offset, known, name)
        place = self.places.setdefault(name, (where, offset))
        if place != (where, offset):
            (topic, number), at = place
            text = f"record {name} is also at offset {at} of {topic}-{number}"
            self._wrong("duplicate", text, where, offset, name)

    def _wrong(self, kind: str, text: str, where: Where, offset: int, *names: Name) -> None:
        text = f"offset {offset} of {where[0]}-{where[1]}: {text}"
        self.violations.append(Violation(kind, text, where, offset, names))


def everything_seen(history: History) -> Seen:
    """Deliveries of all readers, and the logs at the end."""
    seen = Seen()
    for run in history.runs:
        for at, name in enumerate(run.names, run.first):
            seen.add(run.reader, run.where, at, name)
    for final in history.finals:
        for at, name in final.names.items():
            seen.add(f"the log {final.which}", final.where, at, name)
    return seen


def judge_log(history: History) -> list[Violation]:
    """All violations of the log itself."""
    seen = everything_seen(history)
    return [
        *seen.violations,
        *_unsent(history, seen),
        *_reordered(seen),
        *_lost(history, seen),
        *_holes(history),
    ]


def _unsent(history: History, seen: Seen) -> Iterator[Violation]:
    for name, (where, offset) in seen.places.items():
        sent = history.sent.get(name)
        at = f"offset {offset} of {where[0]}-{where[1]}: record {name}"
        if sent is None:
            yield Violation("phantom", f"{at} was never sent", where, offset, (name,))
        elif sent.refused:
            text = f"{at} is there, but its send raised"
            yield Violation("refused", text, where, offset, (name,))
        elif sent.topic != where[0] or not _agrees(sent, where[1], offset):
            text = f"{at} belongs to {sent.topic}-{sent.partition}, offset {sent.offset}"
            yield Violation("moved", text, where, offset, (name,))


def _agrees(sent: Sent, partition: int, offset: int) -> bool:
    return sent.offset == -1 or (sent.partition, sent.offset) == (partition, offset)


def _reordered(seen: Seen) -> Iterator[Violation]:
    for where, names in seen.names.items():
        last: dict[int, int] = {}
        for offset in sorted(names):
            producer, sequence = names[offset]
            before = last.get(producer, -1)
            if sequence < before:
                text = (
                    f"offset {offset} of {where[0]}-{where[1]}: record {(producer, sequence)}"
                    f" comes after {(producer, before)}"
                )
                both = ((producer, before), (producer, sequence))
                yield Violation("reordered", text, where, offset, both)
            last[producer] = max(before, sequence)


def _lost(history: History, seen: Seen) -> Iterator[Violation]:
    for which in dict.fromkeys(final.which for final in history.finals):
        logs = {one.where: one for one in history.finals if one.which == which}
        for name, sent in history.sent.items():
            if which != AT_THE_END and history.topic(sent.topic).is_memory:
                continue  # it is gone by design
            text = _loss_of(history, logs, seen, name, sent)
            if text:
                where = (sent.topic, sent.partition)
                text = f"record {name} {text}, in the log {which}"
                yield Violation("lost", text, where, sent.offset, (name,))


def _loss_of(
    history: History, logs: dict[Where, FinalLog], seen: Seen, name: Name, sent: Sent
) -> str:
    """What is wrong with a record that was acknowledged; empty if nothing is."""
    topic = history.topic(sent.topic)
    if topic.deleted or not sent.stored or sent.acks == 0:
        return ""
    promised = "acknowledged as durable" if sent.durable else "acknowledged as stored"
    if not (sent.durable and not topic.is_memory) and any(
        loss.takes(topic) and loss.ended >= sent.invoked for loss in history.losses
    ):
        return ""
    if sent.offset == -1:
        there = seen.places.get(name)
        if there is None:
            return "" if topic.shrinks else f"was {promised}, and nobody ever saw it"
        where, offset = there
    else:
        where, offset = (sent.topic, sent.partition), sent.offset
    log = logs.get(where)
    if log is None:
        return f"was {promised} in {where[0]}-{where[1]}, which is not there"
    if offset < log.start:
        return "" if topic.shrinks else f"is below log start {log.start}: nothing may be deleted"
    if log.names.get(offset) != name:
        found = log.names.get(offset)
        return f"was {promised} at offset {offset} of {where[0]}-{where[1]}; there is {found}"
    return ""


def _holes(history: History) -> Iterator[Violation]:
    for final in history.finals:
        topic = history.topic(final.where[0])
        if topic.deleted or _jumps(history, final):
            continue
        where = f"{final.where[0]}-{final.where[1]}"
        missing = final.end - final.start - len(final.names)
        if missing:
            first = next(at for at in range(final.start, final.end) if at not in final.names)
            text = f"{where} from {final.start} to {final.end}: {missing} offsets hold no record"
            yield Violation("hole", f"{text}, the first is {first}", final.where, first)
        if final.start and not topic.shrinks:
            text = f"{where} starts at {final.start}: nothing may be deleted"
            yield Violation("shrunk", text, final.where, final.start)


def _jumps(history: History, final: FinalLog) -> bool:
    """After a loss of memory offsets go on at the reserved limit, so that none is given twice."""
    topic = history.topic(final.where[0])
    if final.which == AFTER_A_POWER_CUT or any(loss.takes(topic) for loss in history.losses):
        return True
    # So they do if a broker was killed while it opened what another one had stopped.
    return bool(history.losses) and _ends_at_a_step(final)


def _ends_at_a_step(final: FinalLog) -> bool:
    """Whether all that is missing is one range, up to an offset that only a limit can be."""
    missing = [at for at in (final.start, *(name + 1 for name in final.names)) if at < final.end]
    first = next((at for at in missing if at not in final.names), final.end)
    behind = min((at for at in final.names if at > first), default=final.end)
    count = final.end - final.start - len(final.names)
    return behind > 0 and behind % OFFSET_STEP == 0 and behind - first == count
