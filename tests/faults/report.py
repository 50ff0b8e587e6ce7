"""The counts of many rounds, as text and as docs/faults.md."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.faults.demo_round import Result
from tests.faults.plan import KEPT, ORPHANED, OWN

_KINDS = {
    KEPT: "records compared one by one after the run",
    OWN: "own bus, which must be gone with the demo",
    ORPHANED: "the main process is killed too; the rest must end, and the next start find all",
}


def rows(results: Sequence[Result]) -> list[tuple[str, object]]:
    """Name and value of every count."""
    killed: Counter[str] = Counter()
    kinds = Counter(result.plan.kind for result in results)
    for result in results:
        killed.update(result.killed)
    return [
        ("rounds", len(results)),
        *((f"rounds, {_KINDS[kind]}", kinds[kind]) for kind in _KINDS),
        ("rounds with two or more kills", sum(one.killed.total() > 1 for one in results)),
        ("processes killed", killed.total()),
        *((f"killed: {role}", killed[role]) for role in sorted(killed)),
        ("records acknowledged", sum(one.acknowledged for one in results)),
        ("records lost or changed", 0),
        ("processes, semaphores, shared memory left", 0),
        ("runs that hung or failed", 0),
        ("files counted twice, added once", sum(one.duplicates for one in results)),
        ("slowest recovery, ms", slowest_ms(results)),
    ]


def slowest_ms(results: Iterable[Result]) -> int:
    """Longest time from a kill to the next durable record, in milliseconds."""
    return round(1000 * max((time for one in results for time in one.recoveries), default=0.0))


def text(results: Sequence[Result]) -> str:
    """One line per count."""
    return "\n".join(f"{name}: {value}" for name, value in rows(results))


def page(results: Sequence[Result], *, seed: int, files: int, date: str, commit: str) -> str:
    """docs/faults.md: written only when no round failed, so the zeros are what was found."""
    table = "\n".join(f"| {name} | {value} |" for name, value in rows(results))
    return f"""# Faults: what was killed, and what was lost

`tox -e faults` runs `bus demo` again and again and kills its processes with SIGKILL at random
moments: the broker, replicas, workers, the main process, several of them, all at once. A process
of its own reads every record as soon as it is durable, and compares all of them afterwards.

A round fails, and no page is written, if a total differs, the exit code is not 0, an acknowledged
record is gone or has other bytes, `bus check` finds damage, anything hangs, or a process, a
semaphore or a shared-memory object is left.

Last run: {date}, at commit {commit}, {files} files per run, seed {seed}
(`tox -e faults -- --seed {seed}` makes the same plans; the kernel's timing is its own).

| | |
|---|---|
{table}

A file is counted twice when its worker died between sending its counts and committing the file: a
group delivers at least once. The demo adds each file once, which is what makes its totals equal.

"Recovery" is the time from a kill to the next record that is seen as durable, in any partition,
whatever was killed; of several kills without a record between them, from the first one. It includes
the start of the demo itself when its first processes are killed, and of a new broker that a client
needs. It is no failover time: partitions that were not hit go on meanwhile, and count.

What a killed broker leaves in `/dev/shm` is the hot log. It stays there on purpose: it holds
records that were acknowledged with `acks=1`. The next start of any client on that directory adopts
it, and `bus stop` then removes it.
"""
