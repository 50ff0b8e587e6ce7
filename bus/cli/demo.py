"""`bus demo`: the standard library through the bus, with a worker killed half-way."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from bus.cli.output import human_bytes, human_rate, note, print_json, print_table
from bus.cli.temporary import own_or_given_bus
from bus.demo.corpus import SourceFile, chosen, standard_library
from bus.demo.run import Moment, Outcome, Run, plain_totals


@click.command()
@click.option("-d", "--dir", "directory", help="Use this bus and leave it running.  [default: own]")
@click.option("--files", type=click.IntRange(min=1), help="Only so many files.  [default: all]")
@click.option("--seed", type=int, help="Choose these at random; one seed, one choice.")
@click.option("--kill/--no-kill", default=True, help="Whether a worker is killed half-way.")
@click.option("--keep", is_flag=True, help="Leave topics and group where they are; with --dir.")
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
@click.pass_context
def demo(
    context: click.Context,
    directory: str | None,
    files: int | None,
    seed: int | None,
    kill: bool,
    keep: bool,
    as_json: bool,
) -> None:
    """Tokenize the Python standard library with three worker processes, one of them killed.

    Every source file goes through a topic of 4 partitions; the workers send counts to a second
    topic; the totals must equal those of a plain loop. Takes less than a minute.
    Exit codes: 0 they are equal; 1 they are not, or the bus failed; 2 wrong usage.
    """
    if keep and directory is None:
        raise click.UsageError("--keep needs --dir: the demo's own bus is removed when it ends")
    corpus = chosen(standard_library(), files, seed)
    note(f"{len(corpus)} files, {human_bytes(sum(file.bytes for file in corpus))}")
    console = Console(stderr=True)
    with own_or_given_bus(directory, "demo") as path, _progress(console) as progress:
        outcome = _through_the_bus(path, corpus, progress, kill=kill, keep=keep)
        totals, plain_s = _plain(corpus, progress)
    wrong = differences(totals, outcome.tally.totals)
    if as_json:
        print_json(as_object(corpus, outcome, totals, plain_s))
    else:
        show(corpus, outcome, totals, plain_s)
    for line in wrong:
        note(f"bus: {line}")
    context.exit(1 if wrong else 0)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed}/{task.total} files  {task.fields[detail]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def _through_the_bus(
    path: Path, corpus: list[SourceFile], progress: Progress, *, kill: bool, keep: bool
) -> Outcome:
    task = progress.add_task("bus", total=len(corpus), detail="")
    run = Run(path, corpus, lambda moment: _show_moment(progress, task, moment))
    try:
        outcome = run.run(kill=kill)
    finally:
        if not keep:
            run.clean_up()
    rate = human_rate(len(corpus) / outcome.seconds)
    progress.update(task, completed=len(corpus), detail=rate)
    return outcome


def _show_moment(progress: Progress, task: TaskID, moment: Moment) -> None:
    rate = human_rate(moment.counted / moment.seconds)
    detail = f"{rate}  lag {moment.lag}  {moment.workers} workers"
    progress.update(task, completed=moment.counted, detail=detail)


def _plain(corpus: list[SourceFile], progress: Progress) -> tuple[Counter[str], float]:
    task = progress.add_task("plain", total=len(corpus), detail="")
    return plain_totals(corpus, lambda done: progress.update(task, completed=done))


def differences(plain: Counter[str], bus: Counter[str]) -> list[str]:
    """Every total in which the bus and the plain loop do not agree, as a sentence."""
    return [
        f"totals differ: {name} is {bus[name]} over the bus and {plain[name]} in a plain loop"
        for name in sorted({*plain, *bus})
        if plain[name] != bus[name]
    ]


def as_object(
    corpus: list[SourceFile], outcome: Outcome, totals: Counter[str], plain_s: float
) -> dict[str, object]:
    """The closing table for machines. Times are seconds, `takeover_s` from kill to next count."""
    return {
        "files": len(corpus),
        "equal": not differences(totals, outcome.tally.totals),
        "bus_s": round(outcome.seconds, 3),
        "plain_s": round(plain_s, 3),
        "records_per_s": round(2 * len(corpus) / outcome.seconds, 1),
        "killed": outcome.killed,
        "takeover_s": outcome.takeover_s,
        "counted_twice": outcome.tally.repeated,
        "by_worker": dict(outcome.by_worker),
        "totals": dict(outcome.tally.totals),
    }


def show(corpus: list[SourceFile], outcome: Outcome, totals: Counter[str], plain_s: float) -> None:
    """The closing tables for people."""
    rows: list[tuple[object, ...]] = [
        (name, f"{count:,}", f"{totals[name]:,}", "=" if count == totals[name] else "DIFFERENT")
        for name, count in outcome.tally.totals.most_common()
    ]
    rows.append(("seconds", f"{outcome.seconds:.1f}", f"{plain_s:.1f}", ""))
    rates = [human_rate(len(corpus) / seconds) for seconds in (outcome.seconds, plain_s)]
    rows.append(("files", *rates, ""))
    print_table(("", ">over the bus", ">plain loop", ""), rows)
    workers: list[tuple[object, ...]] = [
        (pid, count, "killed with SIGKILL" if pid in outcome.killed else "")
        for pid, count in outcome.by_worker.items()
    ]
    print_table((">worker pid", ">files", ""), workers)
    takeover = outcome.takeover_s
    after = f"{takeover * 1000:.0f} ms after the kill its partitions went on" if takeover else ""
    note(f"{outcome.tally.repeated} files were counted twice and added once. {after}")
