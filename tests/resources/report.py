"""What the tests of resources did and measured, as docs/resources.md."""

from collections.abc import Mapping, Sequence

#: what each file of tests is about; a file that is not named here fails the run
ABOUT = {
    "tests/resources/test_space.py": "every amount of free disk, memory, inodes; descriptors;"
    " address space",
    "tests/resources/test_many_clients.py": "all client slots taken; 500 processes killed at once;"
    " a tree of forks",
    "tests/resources/test_many_partitions.py": "a topic of 1,000 partitions, and 1,000 topics",
    "tests/resources/test_leftovers.py": "each kind of leftover, after a kill, a stop and half a"
    " stop",
    "tests/resources/test_clock.py": "the wall clock jumps by ten years, there and back",
    "tests/resources/test_hung_disk.py": "syncs that do not come back",
    "tests/resources/real_disk.py": "a device that does not answer: replica and broker in state D",
    "tests/stops/test_partition_locks.py": "a sender stopped at 100 instructions of an append",
    "tests/stops/test_groups.py": "members stopped inside and outside of their group's mutex",
    "tests/stops/test_brokers_and_replicas.py": "brokers, replicas and consumers that are stopped",
}


def page(
    passed: Mapping[str, Sequence[float]],
    figures: Sequence[tuple[str, str]],
    *,
    date: str,
    commit: str,
    command: str,
) -> str:
    """The page: written only when no test failed. `passed`: seconds of each test, by file."""
    rows = "\n".join(
        f"| `{file}` | {ABOUT[file]} | {len(passed[file])} | {sum(passed[file]):.0f} |"
        for file in sorted(passed)
    )
    measured = "\n".join(f"| {what} | {value} |" for what, value in figures)
    return f"""# Resources: what runs out, hangs, jumps or was left behind

`{command}` lets a bus run out of each thing that it needs, one amount after the other, and gives it
back. A run fails, and no page is written, if an acknowledged record is gone, an error does not name
its cause, somebody hangs who has nothing to do with it, or a process, a semaphore, a file or an
object in shared memory is left.

Last run: {date}, at commit {commit}.

| tests | what | passed | s |
|---|---|---|---|
{rows}

Failed: 0.

## Measured on the way

With all the tests on one virtual machine with two processors; a sync of its disk takes 2 to 5 ms.
What is done to each partition in turn (making, opening, a clean stop) is two syncs of it.

| | |
|---|---|
{measured}
"""
