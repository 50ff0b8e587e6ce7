"""The sweeps over what Python does to shared state: groups, topics, slots."""

from pathlib import Path

from tests.steps import directory_sweep, effects, group_sweep
from tests.steps.group_stage import OPERATIONS
from tests.steps.group_sweep import Swept

#: Second deaths start from every so many of the first ones.
FROM_EVERY = 5


def run(directory: Path, *, later: int) -> list[Swept]:
    """Every death of every path, and second ones before every `later`-th effect."""
    library = effects.build(directory)
    found = []
    for module, names in (
        (group_sweep, OPERATIONS),
        (directory_sweep, directory_sweep.OPERATIONS),
    ):
        for name in names:
            options = {"stride": 1, "from_every": FROM_EVERY, "later": later}
            found.append(module.sweep(name, library, directory / f"python {name}", **options))
            print(f"{name}: {found[-1].kills} and {found[-1].second_kills} kills", flush=True)
    return found


def text(found: list[Swept], *, later: str) -> str:
    """The section of docs/steps.md."""
    rows = "\n".join(
        f"| {one.name} | {one.effects} | {one.kills} | {one.second_kills} | {len(one.violations)} |"
        for one in found
    )
    return f"""
## Python: one death before every effect, and a second one in the repair

What Python does to shared state is seen by others as *effects* only: stores to shared memory, and
system calls that write, create, rename, remove or lock. Everything between two of them dies with
the process. The stores are found by write-protecting the shared mappings, the calls by a seccomp
filter, so none is left out, and the process is killed before each of them, with one exception: a
write is one effect, though a loss of power may tear it (`docs/power.md`).

After each death others go on: members prove it, share the partitions, commit; or the next broker
starts. Violated would be: a commit that went back or is torn, a partition without owner or with
two, a member, slot, doorbell, file or number left over or given twice, damage by `bus check`. From
every {FROM_EVERY}th of the states, who goes on dies as well, before its own effects (in this run at
every {later}th of them, from the first), and the next one goes on.

| path | effects | kills | second kills | violations |
|---|---|---|---|---|
{rows}
"""
