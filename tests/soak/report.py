"""The counts of many rounds, as text and as docs/soak.md."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tests.soak.round import Result

#: Every kind of violation that the judge and the rounds know.
KINDS: Final = {
    "lost": "acknowledged records that are gone",
    "duplicate": "records at two offsets",
    "phantom": "records that nobody sent, or with other bytes",
    "conflict": "offsets with two records, between any two readers",
    "moved": "records elsewhere than their producer was told",
    "refused": "records that are there although their send raised",
    "reordered": "records against their producer's order",
    "hole": "offsets without a record",
    "shrunk": "log starts that moved where nothing may be deleted",
    "skipped": "records that a group passed although they were there",
    "redelivered": "records given twice without a death, or below the commit",
    "silent gap": "gaps that were not announced",
    "commit back": "committed offsets that went back",
    "commit beyond": "committed offsets beyond the log end",
    "went back": "readers that went back without a seek",
    "unread": "groups or replicas that did not get to the end",
    "unreadable": "logs that could not be read afterwards",
    "wrong error": "errors that nothing explains",
    "died or hung": "workers that hung, or died of themselves",
    "left behind": "processes, semaphores, shared memory left",
    "damage": "damages that `bus check` found",
    "memory": "brokers or replicas that grew too large",
}
_MIB: Final = 1 << 20


def rows(results: Sequence[Result]) -> list[tuple[str, object]]:
    """Name and value of every count."""
    actions: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    for result in results:
        actions.update(result.actions)
        losses.update(result.losses)
    refused = sum(n for name, n in actions.items() if name.startswith("refused"))
    harm = {
        name: count
        for name, count in sorted(actions.items())
        if not name.startswith("refused") and name != "audit"
    }
    violations = Counter(one.kind for result in results for one in result.violations)
    return [
        ("rounds, each with new topics and groups on the same bus", len(results)),
        ("minutes of storm, healing and audit", round(sum(r.seconds for r in results) / 60, 1)),
        ("records sent", sum(r.sent for r in results)),
        ("records acknowledged (acks=1 or all)", sum(r.acknowledged for r in results)),
        ("records of unknown outcome (killed senders, errors)", sum(r.unknown for r in results)),
        ("records whose send raised", refused),
        ("records delivered to groups and replayers", sum(r.delivered for r in results)),
        ("records in the logs at the ends of rounds", sum(r.kept for r in results)),
        *((f"nemesis: {name}", count) for name, count in harm.items()),
        *((f"memory lost by design: {name}", count) for name, count in sorted(losses.items())),
        ("consumers that joined (each one a rebalance)", sum(r.joined for r in results)),
        *(_counters(results)),
        ("slowest recovery, s", round(max((r.slowest_s for r in results), default=0), 1)),
        *(_trend(results)),
        *((f"violations: {text}", violations[kind]) for kind, text in KINDS.items()),
    ]


def _counters(results: Sequence[Result]) -> list[tuple[str, object]]:
    """What the bus itself counted; the counters begin anew with every hot directory."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.counters)
    names = ("segments_deleted", "dropped_records", "deaths_repaired", "replica_restarts")
    return [(f"counted by the bus at ends of rounds: {name}", total[name]) for name in names]


def _trend(results: Sequence[Result]) -> list[tuple[str, object]]:
    """Largest resident memory in the first and the last quarter of the rounds."""
    quarter = max(len(results) // 4, 1)
    lines: list[tuple[str, object]] = []
    for role in ("broker", "replica"):
        first, last = (
            max((result.memory.get(role, 0) for result in some), default=0) / _MIB
            for some in (results[:quarter], results[-quarter:])
        )
        lines.append((f"largest {role}, MiB, first and last quarter", f"{first:.0f}, {last:.0f}"))
    return lines


def text(results: Sequence[Result]) -> str:
    """One line per count."""
    return "\n".join(f"{name}: {value}" for name, value in rows(results))


def page(results: Sequence[Result], *, seed: int, minutes: float, date: str, commit: str) -> str:
    """docs/soak.md: written only when nothing was violated."""
    table = "\n".join(f"| {name} | {value} |" for name, value in rows(results))
    return f"""# Storms: everything at once, for a long time

`tox -e soak` runs rounds of a minute or so on one bus. In each, producers (acks 0, 1, all, single
sends and batches, values of 0 B to 200 KiB), groups (automatic and manual commits, lists and
patterns, polls and iteration, written and durable) and readers that jump about work on replicated
and memory topics, while topics and partitions come and go and records are deleted. A nemesis kills
and stops any of these processes, the broker and the replicas, one by one and all at once, stops the
bus, fills its disk, and now and then takes all memory away as a power cut would.

Then everything is healed, every group reads to the end, all logs are read, and read again after a
stop or a power cut. Each process has written down what it asked for and what it was told; a judge
(`tests/soak/analysis`) compares all of that with the logs. Every record has a name, so that none
can be lost, doubled, changed or swapped unseen.

Last run: {date}, at commit {commit}, {minutes:g} minutes, seed {seed}
(`tox -e soak -- --seed {seed}` makes the same plans; the kernel's timing is its own).

| | |
|---|---|
{table}

A send is of unknown outcome when its process was killed in it or a batch failed: its record may be
there, once, or not. "Recovery" is the time from an action of the nemesis to the next
acknowledgement of a send that began after it; stopped processes and full disks are part of it.
"""
