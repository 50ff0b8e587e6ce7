"""The counts of a full sweep as docs/steps.md: written only when nothing was violated."""

from collections.abc import Mapping

from tests.steps import python_paths
from tests.steps.group_sweep import Swept
from tests.steps.native_sweep import Sweep

_HEADS = {
    "one": "One death, before every instruction",
    "two": "Two deaths: the second in the next append, from every state that the first left",
    "three": "Three deaths: from every state that two have left, one more",
    "acks": "Share groups: one death in an ack table, and a survivor that mends and works on",
}


def page(
    sweeps: Mapping[str, Sweep],
    python: list[Swept],
    *,
    grids: tuple[str, str, str, str],
    date: str,
    commit: str,
) -> str:
    """The whole page."""
    tables = "\n".join(
        f"\n## {_HEADS.get(name, name)}\n\n{_table(found)}" for name, found in sweeps.items()
    )
    kills = sum(path.kills for found in sweeps.values() for path in found.paths)
    kills += sum(one.kills + one.second_kills for one in python)
    return f"""# Steps: death at every instruction

`tox -e steps` brings a real process to an instruction of an operation, kills it there with SIGKILL,
and lets a survivor go on: it takes the lock (repairing it if its holder died), appends, rolls
around the ring, and reads everything. Violated would be: a record that was published before and
is gone, changed or out of order; the record in question half present; a hole in the window; an
index entry or an end that lies; a lock that cannot be taken; a pin, file or slot of the dead that
stays. `bus check` looks at every state as well, and the broker's own code reaps and rolls from it.

Last run: {date}, at commit {commit}: {kills} kills, 0 violations.

A *state* is what a survivor can see: shared memory, the doorbell's count, and what the kernel made
of the lock. Nothing else of a dead process matters, so each different state is audited once,
however many instructions lead to it, and a further death starts from each.

In this run first deaths came before every instruction number that {grids[0]} divides, second ones
with {grids[1]}, third ones with {grids[2]}; and, wherever two of those left different states,
before the instructions in between that make the difference. In the middle of a long copy (`rep
stos`, `rep movs`, the loop of the 300 KiB record) only bytes change that nobody reads: there every
1021st round, or every 5003rd instruction, is taken.
{tables}
{python_paths.text(python, later=grids[3])}"""


def _table(found: Sweep) -> str:
    rows = "\n".join(
        f"| {one.path} | {one.instructions} | {one.kills} | {one.states} | {one.violations} |"
        for one in found.paths
    )
    return "| path | instructions | kills | states | violations |\n|---|---|---|---|---|\n" + rows
