"""docs/models.md: what every model holds, in how many states, and which breakages were found."""

from collections.abc import Sequence

from tests.litmus.sweep import ROUNDS, Swept
from tests.models.sweep import Explored

#: What holds in every state of a model.
CLAIMS = {
    "append": "an acknowledged record is there, whole, once; the end of the log is consistent; two"
    " deaths, in the repair too; stores come to memory out of order",
    "attach": "no live client loses its slot, its doorbell or its place among the readers, no two"
    " have the same one, and nothing stays taken; clients and the broker killed at every step",
    "groups": "a partition never has two readers, only its owner's commit is accepted, also when a"
    " member sleeps through its removal, and it has an owner once nobody dies any more; deaths"
    " under the mutex and in the repair",
    "move": "what was acknowledged is on the disk or in the hot directory in use, no record is made"
    " durable twice; producers slow or stopped anywhere; producers, replicas and the broker killed"
    " at every step",
    "offsets": "of the two copies of a commit one always counts, none goes back and none is seen"
    " that nobody made; after a power loss what was synced is there, less at most one commit if a"
    " copy is damaged; writers and the broker killed at every step, a failed sync",
    "recycle": "bytes under a confirmed pin never change; the ring goes on after a reader's or"
    " roller's death; store buffers",
    "replica": "what the watermark covers is on disk when the power fails, whatever died and"
    " whichever fdatasync failed",
    "wake": "no wake-up is lost, without any time limit, unless a waker is killed; store buffers",
}


def page(
    models: Sequence[Explored], litmus: Swept, *, date: str, commit: str, took_s: float
) -> str:
    """Written only when nothing was violated and every breakage was found."""
    return f"""# Models and litmus tests

`tox -e models` explores the protocols as Promela models ([tests/models](../tests/models)) and the
pairs of stores and loads that they stand on ([tests/litmus](../tests/litmus)). The heads of the
models and of `weak.cpp` say what they leave out. This page is written by the run, and only if all
of it holds and every breakage was found.

Last run: {date}, at commit {commit}, in {took_s / 60:.0f} minutes.

## Protocols

Spin visits every state that a model can reach, with a death before every step; the limits (two
deaths, two records, ...) stand at the top of each model. A breakage takes out or misplaces one step
(`BREAK_...`): an error must be found with each of them.

| model | what holds in every state | states | seconds | steps broken, all found |
|---|---|---|---|---|
{_models(models)}

What Spin found with each breakage:

| breakage | found |
|---|---|
{_breakages(models)}

{_orders(litmus)}
"""


def _orders(litmus: Swept) -> str:
    return f"""## The order of memory

`weak.cpp` runs the core's own functions under Relacy, which returns at every load any value that
the C11 memory model allows, and reports data that nothing orders: {ROUNDS:,} executions of each
test. It returns no value before its store (no load buffering), and explores at random.

| test | executions | |
|---|---|---|
{_verdicts(litmus)}

Each pair was made too weak once, and found:

| breakage | found | after executions |
|---|---|---|
{_mutations(litmus)}

## On this processor

The same pairs between two threads and between two processes. x86 shows store buffering alone, and
does so where the fences are left out; that the others show nothing here proves little, which is why
there is `weak.cpp`.

| pair | between | rounds | forbidden outcomes |
|---|---|---|---|
{_outcomes(litmus)}

`tox -e arm` compiles the core for aarch64, checks that each order and each pair is there in the
instructions (`ldar`, `stlr`, `dmb ish`, ...), and runs the tests of the core and these pairs under
qemu. qemu on x86 orders memory as x86 does: that run is for the rest of the code. The tests of a
lock whose holder died do not run there, for qemu has no robust locks."""


def _models(models: Sequence[Explored]) -> str:
    return "\n".join(
        f"| `{one.name}.pml` | {CLAIMS[one.name]} | {one.states:,} | {one.seconds:.0f}"
        f" | {len(one.found)} |"
        for one in models
    )


def _breakages(models: Sequence[Explored]) -> str:
    return "\n".join(
        f"| `{one.name}.pml`, `{broken}` | {_plain(error)} |"
        for one in models
        for broken, error in one.found.items()
    )


def _plain(error: str) -> str:
    text = error.partition(" (at depth")[0].replace("|", "\\|")
    return f"`{text}`" if text.startswith("assertion") else text


def _verdicts(litmus: Swept) -> str:
    return "\n".join(f"| {one.test} | {one.rounds:,} | {one.what} |" for one in litmus.verdicts)


def _mutations(litmus: Swept) -> str:
    return "\n".join(
        f"| {name} | {one.what.lower()} in {one.test} | {one.rounds:,} |"
        for name, one in litmus.found.items()
    )


def _outcomes(litmus: Swept) -> str:
    return "\n".join(
        f"| {pair} | {kind} | {one.rounds:,} | {one.forbidden:,} |"
        for (pair, kind), one in litmus.outcomes.items()
    )
