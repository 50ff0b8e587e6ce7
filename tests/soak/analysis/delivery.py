"""What groups were given, and how far they have committed.

skipped         committed past a record that was there, and that no member was given
redelivered     given again although the member that had it lives, or below the commit
silent gap      deleted or dropped records were passed without a word
commit back     a committed offset became smaller
commit beyond   a committed offset above the log end
unread          the group did not get to the end after everything was healed
went back       a reader that did not seek was given smaller offsets than before
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from tests.soak.analysis.facts import AT_THE_END, History, Run, Violation, Where
from tests.soak.analysis.log import Seen, everything_seen

Key = tuple[str, Where]


def judge_delivery(history: History) -> list[Violation]:
    """All violations of delivery and commits."""
    seen = everything_seen(history)
    runs: dict[Key, list[Run]] = defaultdict(list)
    for run in history.runs:
        group = history.groups.get(run.reader)
        if group is not None:
            runs[group, run.where].append(run)
    for found in runs.values():
        found.sort(key=lambda run: run.got)
    return [
        *_commits(history),
        *(wrong for key, found in runs.items() for wrong in _redelivered(history, key, found)),
        *_below_commit(history, runs),
        *_skipped(history, seen, runs),
        *_unread(history),
        *_went_back(history),
    ]


def _named(key: Key) -> str:
    group, (topic, partition) = key
    return f"group {group}, {topic}-{partition}"


# ------------------------------------------------------------------------------------ commits


def _commits(history: History) -> Iterator[Violation]:
    looks: dict[Key, int] = {}
    for sample in sorted(history.samples, key=lambda one: one.asked):
        key = (sample.group, sample.where)
        before = looks.get(key, 0)
        if sample.offset < before:
            text = f"{_named(key)}: committed {sample.offset} after {before}"
            yield Violation("commit back", text, sample.where, sample.offset)
        looks[key] = max(before, sample.offset)
        if sample.end is not None and sample.offset > sample.end:
            text = f"{_named(key)}: committed {sample.offset}, the log ends at {sample.end}"
            yield Violation("commit beyond", text, sample.where, sample.offset)
    yield from _forgotten(history)


def _forgotten(history: History) -> Iterator[Violation]:
    """A confirmed commit is seen by every look that begins later."""
    timeline = commits_over_time(history)
    for sample in history.samples:
        key = (sample.group, sample.where)
        confirmed = committed_at(timeline.get(key, ([], [])), sample.asked)
        if sample.offset < confirmed:
            text = f"{_named(key)}: committed {confirmed}, later {sample.offset}"
            yield Violation("commit back", text, sample.where, sample.offset)


Timeline = tuple[list[int], list[int]]


def commits_over_time(history: History, *, samples: bool = False) -> dict[Key, Timeline]:
    """When which offset was known to be committed: times and offsets, both rising."""
    events = [*history.commits, *(history.samples if samples else [])]
    lines: dict[Key, Timeline] = {}
    for commit in sorted(events, key=lambda one: one.done):
        times, offsets = lines.setdefault((commit.group, commit.where), ([], []))
        if not offsets or commit.offset > offsets[-1]:
            times.append(commit.done)
            offsets.append(commit.offset)
    return lines


def committed_at(timeline: Timeline, when: int) -> int:
    """The offset that was committed for sure at that time; 0 if none was."""
    times, offsets = timeline
    at = bisect_right(times, when)
    return offsets[at - 1] if at else 0


# --------------------------------------------------------------------------------- deliveries


def _redelivered(history: History, key: Key, runs: list[Run]) -> Iterator[Violation]:
    last: dict[int, Run] = {}
    for run in runs:
        reported = False
        for offset in range(run.first, run.end):
            before = last.get(offset)
            last[offset] = run
            if before is None or reported or _excused(history, before, run):
                continue
            reported = True
            text = (
                f"{_named(key)}: offset {offset} was given to {before.reader}, which did not die,"
                f" and then to {run.reader}"
            )
            yield Violation("redelivered", text, key[1], offset)


def _excused(history: History, before: Run, again: Run) -> bool:
    """Whoever had it died, or the whole bus ended, before it was given out again."""
    died = history.deaths.get(before.reader)
    if died is not None and died <= again.got:
        return True
    return any(loss.began <= again.got and loss.ended >= before.asked for loss in history.losses)


def _below_commit(history: History, runs: dict[Key, list[Run]]) -> Iterator[Violation]:
    timeline = commits_over_time(history, samples=True)
    for key, found in runs.items():
        if key not in timeline:
            continue
        for run in found:
            committed = committed_at(timeline[key], run.asked)
            if run.first < committed:
                text = (
                    f"{_named(key)}: {run.reader} was given offset {run.first} when {committed}"
                    " was committed"
                )
                yield Violation("redelivered", text, key[1], run.first)


# ------------------------------------------------------------------------------------ skipped


def _skipped(history: History, seen: Seen, runs: dict[Key, list[Run]]) -> Iterator[Violation]:
    committed: dict[Key, int] = defaultdict(int)
    for commit in [*history.commits, *history.samples]:
        key = (commit.group, commit.where)
        committed[key] = max(committed[key], commit.offset)
    existed = _existed(history, seen)
    for key, end in committed.items():
        where = key[1]
        if history.topic(where[0]).deleted:
            continue
        given = {at for run in runs.get(key, []) for at in range(run.first, run.end)}
        there = sorted(at for at in existed[where] if at < end and at not in given)
        if there:
            yield from _judge_skips(history, key, runs.get(key, []), there)


def _judge_skips(
    history: History, key: Key, runs: list[Run], offsets: list[int]
) -> Iterator[Violation]:
    where = key[1]
    lost = _lost_by_design(history, where, offsets)
    passes = _Passes(history, key, runs)
    silent: set[int] = set()
    for offset in offsets:
        if offset in lost:
            continue
        passing = passes.of(offset)
        if not passes.was_deleted(offset, passing):
            text = f"{_named(key)}: nobody was given offset {offset}, and it was there"
            yield Violation("skipped", text, where, offset)
            return  # one is enough: the others follow from it
        if passing is not None and passes.is_silent(passing) and id(passing) not in silent:
            silent.add(id(passing))
            text = f"{_named(key)}: {passing.reader} passed offset {offset} without a word"
            yield Violation("silent gap", text, where, offset)


def _lost_by_design(history: History, where: Where, offsets: list[int]) -> set[int]:
    """Offsets that were lost with the memory: they are in no log at the end."""
    topic = history.topic(where[0])
    if not any(loss.takes(topic) for loss in history.losses):
        return set()
    kept = {at for one in history.finals if one.where == where for at in one.names}
    return set(offsets) - kept


def _existed(history: History, seen: Seen) -> dict[Where, set[int]]:
    """Where records were: somebody saw them, or their producer was told."""
    found: dict[Where, set[int]] = defaultdict(set)
    for where, names in seen.names.items():
        found[where] |= names.keys()
    for sent in history.sent.values():
        if sent.stored and sent.offset >= 0:
            found[sent.topic, sent.partition].add(sent.offset)
    return found


class _Passes:
    """Which delivery took a group past an offset, and what was known then."""

    def __init__(self, history: History, key: Key, runs: list[Run]) -> None:
        self._starts = history.starts.get(key[1], [])
        self._runs = runs
        self._last_look = max((one.done for one in history.samples), default=0)
        self._before: dict[int, Run | None] = {}
        previous: dict[str, Run] = {}
        for run in runs:
            self._before[id(run)] = previous.get(run.reader)
            previous[run.reader] = run

    def of(self, offset: int) -> Run | None:
        """The first delivery, in time, of something behind it."""
        return next((run for run in self._runs if run.first > offset), None)

    def was_deleted(self, offset: int, passing: Run | None) -> bool:
        """The log start was above it when the group came past."""
        when = passing.got if passing is not None else self._last_look
        return any(start > offset and seen <= when for seen, start in self._starts)

    def is_silent(self, passing: Run) -> bool:
        """The same reader had been in front of it, and nothing was announced in between."""
        before = self._before[id(passing)]
        if before is None or before.end > passing.first:
            return False
        return passing.announced_after == before.announced_before


# --------------------------------------------------------------------------------------- rest


def _unread(history: History) -> Iterator[Violation]:
    """`final` tells where the logs end, the last looks at the groups how far they came."""
    finals = {one.where: one for one in history.finals if one.which == AT_THE_END}
    last: dict[Key, int] = {}
    for sample in sorted(history.samples, key=lambda one: one.asked):
        last[sample.group, sample.where] = sample.offset
    for key, offset in last.items():
        final = finals.get(key[1])
        end = final.end if final is not None else 0
        if final is not None and max(offset, final.start) < end:
            text = f"{_named(key)}: committed {offset} at last, the log ends at {end}"
            yield Violation("unread", text, key[1], offset)


def _went_back(history: History) -> Iterator[Violation]:
    """Between two seeks a reader without a group only goes on."""
    last: dict[tuple[str, Where, int], int] = {}
    for run in history.runs:
        key = (run.reader, run.where, run.seeks)
        if history.groups.get(run.reader) is None and run.first < last.get(key, 0):
            text = f"{run.reader} was given offset {run.first} after {last[key] - 1}"
            yield Violation("went back", text, run.where, run.first)
        last[key] = run.end
