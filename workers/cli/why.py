"""`python -m workers why`: what became of one record."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Final

import click

from workers.attempts import Outcome
from workers.cli.output import human_time, print_json, print_table
from workers.flight_note import Note
from workers.story import Flight, flight

#: Exit code if nothing at all is known of the record.
UNKNOWN: Final = 1
_NS: Final = 1e9
_WORDS: Final = {
    Outcome.DONE: "done",
    Outcome.FAILED: "failed",
    Outcome.TIMEOUT: "ran too long",
    Outcome.OOM: "out of memory",
    Outcome.INTERRUPTED: "interrupted: its worker was to end; not counted",
    Outcome.GIVEN_UP: "given up",
    Outcome.DIED: "its worker died",
    Outcome.REDRIVEN: "its dead letter was sent again as",
    Outcome.REPLAYED: "replayed as",
}


@click.command()
@click.argument("topic")
@click.argument("partition", type=int)
@click.argument("offset", type=int)
@click.option("-g", "--group", required=True, help="The share group.")
@click.option("-d", "--dir", "directory", envvar="BUS_DIR", help="The bus directory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@click.pass_context
def why(
    ctx: click.Context,
    topic: str,
    partition: int,
    offset: int,
    group: str,
    directory: str | None,
    as_json: bool,
) -> None:
    """Tell what became of the record at OFFSET of PARTITION of TOPIC: why did it run twice?

    The group's pool notes it, if it has a flight record: `run --flight-record`.

    \b
    Example:
        python -m workers why orders 0 42 --group shop

    Exit codes: 0 told; 1 nothing is known of that record, or the bus said no; 2 wrong usage.
    """
    found = flight(topic, partition, offset, group=group, bootstrap_servers=directory)
    if as_json:
        print_json({**asdict(found), "begun": found.begun})
    else:
        _print(found)
    if not (found.notes or found.letters or found.in_hand):
        ctx.exit(UNKNOWN)


def _print(found: Flight) -> None:
    sent = "is not in its topic any more" if found.sent_ns is None else f"sent {_at(found.sent_ns)}"
    came = f", from {found.came_from}" if found.came_from else ""
    click.echo(f"{found.source} in group {found.group}: {sent}{came}")
    if found.notes:
        columns = ("attempt", "begun", ">took", ">CPU", ">worker", "")
        print_table(columns, [_row(number, note) for number, note in found.numbered()])
    for line in _summary(found):
        click.echo(f"  {line}")


def _row(number: int, note: Note) -> tuple[object, ...]:
    words = _WORDS[note.outcome]
    moved = note.outcome in (Outcome.REDRIVEN, Outcome.REPLAYED)
    ran = note.outcome is not Outcome.GIVEN_UP and not moved
    how = f"{words} {note.text}" if moved else ": ".join(filter(None, (words, note.text)))
    return (
        number if ran else None,
        _at(note.begun_ns),
        human_time(note.took_ns / _NS) if ran else None,
        human_time(note.cpu_ns / _NS) if note.cpu_ns else None,
        note.pid,
        how,
    )


def _summary(found: Flight) -> Iterator[str]:
    for one in found.in_hand:
        yield f"worker {one.pid} has it now, for {human_time(one.running_s)}"
    for letter in found.letters:
        yield f"dead letter {letter.topic}:0:{letter.offset}: {letter.told.get('reason', '')}"
    if not (found.notes or found.letters or found.in_hand):
        yield "no attempt at it is on record: it was not begun yet, or its notes are gone"
    elif found.begun:
        yield f"begun {found.begun} {'time' if found.begun == 1 else 'times'}{_counts(found)}"
    if found.passed:
        yield "the group has passed it: it is done or given up"


def _counts(found: Flight) -> str:
    outcomes = [note.outcome for note in found.notes]
    kinds = [one for one in Outcome if one < Outcome.GIVEN_UP or one is Outcome.DIED]
    told = [
        f"{_WORDS[one].split(':')[0]} {outcomes.count(one)}" for one in kinds if one in outcomes
    ]
    return f": {', '.join(told)}" if told else ""


def _at(ns: int) -> str:
    """Local time with milliseconds."""
    return datetime.fromtimestamp(ns / _NS).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
