"""The outcomes of many trials, as docs/calls.md."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.calls.injector import BROKER
from tests.calls.plan import LOOKING
from tests.calls.trial import ENDED, KILLED, WENT_ON, Outcome

Row = tuple[str, str]
#: What the plan leaves out, for the page.
LEFT_OUT = f"""Each errno is a trial of its own, but for opens and calls that only look: one errno
each, in turn. Of calls that only look, and there are many, one stack of so many is hit:
{", ".join(f"`{name}` {stride}" for name, stride in LOOKING.items() if stride > 1)}.
Deaths come before an open with every other stack. What two replicas do alike is hit in one."""


def _row(outcome: Outcome) -> Row:
    one = outcome.injection
    role = "broker" if one.who == BROKER else "replica"
    return role, f"{one.call}{', then a kill' if one.die_after else ''}"


def _effects(outcomes: Sequence[Outcome]) -> str:
    """What was injected, most often first."""
    counts = Counter(one.injection.effect for one in outcomes)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each call of the broker and of the replicas."""
    rows: dict[Row, list[Outcome]] = {}
    for one in outcomes:
        rows.setdefault(_row(one), []).append(one)
    lines = []
    for (role, call), ones in sorted(rows.items()):
        deeds = Counter(one.deed for one in ones)
        hits = sum(one.hit is not None for one in ones)
        counts = [deeds[WENT_ON], deeds[KILLED], deeds[ENDED], sum(bool(o.wrong) for o in ones)]
        cells = [role, call, _effects(ones), hits, *counts]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


class Run(NamedTuple):
    """When, of what and how a sweep was made, of how many trials, and what was run twice."""

    date: str
    commit: str
    command: str
    possible: int
    repeated: int


def page(outcomes: Sequence[Outcome], run: Run) -> str:
    """The whole page."""
    wrong = sum(bool(one.wrong) for one in outcomes)
    hits = sum(one.hit is not None for one in outcomes)
    return f"""# System calls: each one fails, and is the last

`tox -e calls` starts a broker, has it recover several partitions (or adopt them from a broker that
was killed), make, grow, change and delete topics and groups, make spares, roll, reap a client,
delete records and stop, and lets its replicas copy, sync, seal and roll. A tracer follows the
system calls of all these processes. In every trial one of them is never made: it fails with an
error that it may have on a failing or crowded machine, or its process is killed with SIGKILL before
it.

What is hit is each call with each stack of Python lines that leads to it, the first time that it is
made; the same call with the same stack again, in a loop or a later round, is not another one.
{LEFT_OUT}

After that, the bus goes on, or the broker ends and names the cause; whatever is left, the next
broker takes it over. A trial is a violation if a record acknowledged with `acks=1` or `acks="all"`
is gone or has other bytes, a request fails twice although one call failed once, a partition takes
no records any more, a durable file whose sync failed is not copied to a new one (by the replica,
or by the next one if it is killed right after), `bus check` finds damage, anything hangs, or a
process, a temporary file or a shared-memory object is left.

Last run: {run.date}, at commit {run.commit}, `{run.command}`:
{len(outcomes)} of {run.possible} trials, mixed by chance; {hits} of them hit their call (timing
decides whether some calls come), **{wrong} violations**. {run.repeated} of the trials missed a
deadline at first, on a machine with other work, and were run again alone.

| process | call | injected | hit | went on | killed, taken over | ended, taken over | violations |
|---|---|---|---|---|---|---|---|
{table(outcomes)}

"Went on" is the broker: a replica that was hit was started again by it, or met the error itself.
"""
