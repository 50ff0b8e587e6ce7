"""The counts of a sweep of damages at rest, as text and as docs/damage.md."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.damage.rest_trial import Outcome

_KINDS = (
    ("hot:acks-", "ack table"),
    ("hot:", "hot directory"),
    (".log", "durable segment"),
    (".offsets.copy", "copy of an offset table"),
    (".offsets", "offset table"),
    (".acks.copy", "copy of acknowledgements"),
    (".acks", "acknowledgements of a share group"),
    (".json.copy", "copy of a small file"),
    ("_id.copy", "copy of a small file"),
    ("epoch.copy", "copy of a small file"),
)


class Row(NamedTuple):
    """One trial."""

    name: str
    deed: str
    kind: str
    repaired: bool
    verdict: str
    wrong: tuple[str, ...]

    @classmethod
    def of(cls, outcome: Outcome) -> "Row":
        """What counts of an outcome."""
        files = outcome.fault.files
        kind = "both copies" if len(files) > 1 else _kind(files[0])
        name = f"{outcome.fault}{', repaired' if outcome.repaired else ''}"
        verdict = "wrong" if outcome.wrong else outcome.verdict
        deed = f"{outcome.fault.deed} …"
        return cls(name, deed, kind, outcome.repaired, verdict, tuple(outcome.wrong))


def _kind(file: str) -> str:
    for mark, kind in _KINDS:
        if file.startswith(mark) or file.endswith(mark):
            return kind
    return "small file of truth"


def summary(rows: Sequence[Row]) -> str:
    """One line for each verdict."""
    counts = Counter((row.repaired, row.verdict) for row in rows)
    return "\n".join(
        f"{'after a repair' if repaired else 'as it was'}: {verdict} {count}"
        for (repaired, verdict), count in sorted(counts.items())
    )


def _table(rows: Sequence[Row], column: str) -> str:
    names = sorted({getattr(row, column) for row in rows})
    lines = []
    for name in names:
        counts = Counter((r.repaired, r.verdict) for r in rows if getattr(r, column) == name)
        cells = [counts[False, one] for one in ("whole", "reported", "refused")]
        cells += [counts[True, one] for one in ("whole", "reported")]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    head = (
        "| | whole | told | refused | repaired: whole | repaired: told |\n|---|---|---|---|---|---|"
    )
    return head + "\n" + "\n".join(lines)


class Run(NamedTuple):
    """When, of what, and how a sweep was made; `possible`: the trials of a whole one."""

    date: str
    commit: str
    command: str
    took_s: float
    possible: int


def page(rows: Sequence[Row], run: Run) -> str:
    """docs/damage.md: written only when nothing was lost in silence."""
    return f"""# Damage: what happens to files at rest, and what comes of it

`tox -e damage` builds a bus with three partitions, several segments, two consumer groups and a
share group, and brings it to rest in three ways: stopped; killed, all at once, with records that
only RAM has; the same, and restarted (the hot directory is gone). Then it damages a file in every
way below, or both copies of one that is kept twice, uses the bus, and puts it back for the next
trial; each of them once as it is, and once after `bus check --repair`.

A trial fails, and no page is written, if a record that was acknowledged is neither read with its
value nor reported as missing; if a group's commit is higher, or gone without an error (or, after a
repair, without the repair's word); if a record that the share group had not acknowledged does not
come again; if an offset or an id is given out twice; if a broker refuses to start without naming
the file; if `bus check` finds nothing although something is missing; if it still finds something
after a repair.

Last run: {run.date}, at commit {run.commit}: {len(rows)} of {run.possible} trials
({100 * len(rows) / run.possible:.0f} %) in {run.took_s / 60:.0f} minutes, spread over all files and
deeds (`{run.command}`).
Lost in silence: 0. A trial in which a broker missed its deadlines is made again, twice at most.

"Whole": every record and commit was there. "Told": some were not, and whoever asked got an error
that says which, or the repair said that the group begins anew; or what the share group had
acknowledged came again, and `bus check` had found the damage. "Refused": the broker did not start,
and named the file.

{_table(rows, "kind")}

{_table(rows, "deed")}
"""
